//! Plots of the report, as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::{error::Error, record::Record};

/// What a plot shows.
#[derive(Debug, Clone, Copy)]
pub struct Plot {
    /// Its file's name.
    pub file: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// The rows' names without the number at their end, which is the horizontal place.
    pub rows: &'static str,
    /// What that number counts.
    pub across: &'static str,
    /// The figure that goes up.
    pub figure: &'static str,
    /// Its name and unit at the axis.
    pub up: &'static str,
    /// The figure is divided by this.
    pub scale: f64,
}

/// One contender's points, by ascending horizontal place.
type Line = (String, Vec<(f64, f64)>);

/// Draws a plot; returns whether there was anything to draw.
///
/// # Errors
/// The file can't be written.
pub fn draw(plot: Plot, record: &Record, dir: &Path) -> Result<bool, Error> {
    let lines = lines(plot, record);
    let points = || lines.iter().flat_map(|(_, points)| points);
    let (Some(least), Some(most)) = (
        points().map(|(across, _)| *across).min_by(f64::total_cmp),
        points().map(|(across, _)| *across).max_by(f64::total_cmp),
    ) else {
        return Ok(false);
    };
    let top = points().map(|(_, up)| *up).fold(0.0, f64::max) * 1.1;
    let path = dir.join(plot.file);
    let wrong = |error: &dyn std::error::Error| {
        Error::Unsupported(format!("drawing '{}': {error}", path.display()))
    };
    let root = SVGBackend::new(&path, (720, 400)).into_drawing_area();
    let drawn = (|| {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(plot.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((least..most).log_scale(), 0.0..top)?;
        let places = |value: &f64| format!("{value:.0}");
        chart
            .configure_mesh()
            .x_desc(plot.across)
            .y_desc(plot.up)
            .x_label_formatter(&places)
            .light_line_style(BLACK.mix(0.04))
            .draw()?;
        for (index, (who, points)) in lines.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            chart
                .draw_series(line.point_size(3))?
                .label(who)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        root.present()
    })();
    drawn.map_err(|error: DrawingAreaErrorKind<_>| wrong(&error))?;
    Ok(true)
}

fn lines(plot: Plot, record: &Record) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for row in &record.rows {
        let number = row.name.strip_prefix(plot.rows);
        let Some(across) = number.and_then(|number| number.parse::<f64>().ok()) else {
            continue;
        };
        for contender in &row.contenders {
            let Some(up) = row.median(&contender.who, plot.figure) else {
                continue;
            };
            let point = (across, up / plot.scale);
            match lines.iter_mut().find(|(who, _)| *who == contender.who) {
                Some((_, points)) => points.push(point),
                None => lines.push((contender.who.clone(), vec![point])),
            }
        }
    }
    for (_, points) in &mut lines {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    lines
}
