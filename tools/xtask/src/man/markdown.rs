//! The small Markdown of hand-written man page sections, turned into man(7) requests.
//!
//! Understood, each block apart from the next by an empty line:
//!
//! - `# HEADING` starts a section, `## Heading` a part of one;
//! - paragraphs;
//! - code between two lines of three backticks;
//! - `- item`, going on in lines that start with two blanks;
//! - a line `term` followed by a line `: text`, going on in lines that start with two blanks;
//! - within text: `` `code` `` and `**bold**` in bold, `*placeholder*` in italics, and a backslash
//!   before a character that is meant as it is.

/// The sections of a text: each heading and its content as man(7) requests.
///
/// # Errors
/// What is wrong, and in which line.
pub(super) fn sections(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut sections: Vec<(String, String)> = Vec::new();
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        if let Some(heading) = line.strip_prefix("# ") {
            sections.push((heading.trim().to_uppercase(), String::new()));
            continue;
        }
        let Some((_, roff)) = sections.last_mut() else {
            return Err(format!("line {number}: text before the first '# HEADING'"));
        };
        if let Some(heading) = line.strip_prefix("## ") {
            roff.extend([".SS ", &escape(heading.trim()), "\n"]);
            continue;
        }
        if line.starts_with("```") {
            let code: Vec<&str> = lines
                .by_ref()
                .map(|(line, _)| line)
                .take_while(|line| *line != "```")
                .collect();
            roff.push_str(&code_block(&code));
            continue;
        }
        // A paragraph, an item or a term with its text: up to the next empty line, or the next item.
        let mut block = vec![line.trim()];
        while let Some((line, _)) = lines.next_if(|(line, _)| {
            !line.trim().is_empty() && !line.starts_with("- ") && !line.starts_with("```")
        }) {
            block.push(line.trim());
        }
        roff.push_str(&paragraph(&block).map_err(|what| format!("line {number}: {what}"))?);
    }
    Ok(sections)
}

/// Plain text as it is written in man(7).
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            '.' if escaped.is_empty() => escaped.push_str("\\&."),
            ' '..='\u{7e}' => escaped.push(character),
            other => {
                let code = format!("{:04X}", u32::from(other));
                escaped.extend(["\\[u", &code, "]"]);
            }
        }
    }
    escaped
}

fn code_block(code: &[&str]) -> String {
    let mut roff = String::from(".PP\n.RS 4\n.nf\n");
    for line in code {
        roff.push_str(&escape(line));
        roff.push('\n');
    }
    roff.push_str(".fi\n.RE\n");
    roff
}

fn paragraph(block: &[&str]) -> Result<String, String> {
    if let Some(first) = block[0].strip_prefix("- ") {
        let item = [&[first], &block[1..]].concat().join(" ");
        return Ok(format!(".IP \\(bu 2\n{}\n", inline(&item)?));
    }
    if let Some(definition) = block.get(1).and_then(|line| line.strip_prefix(':')) {
        let text = [&[definition.trim()], &block[2..]].concat().join(" ");
        return Ok(format!(".TP\n{}\n{}\n", inline(block[0])?, inline(&text)?));
    }
    Ok(format!(".PP\n{}\n", inline(&block.join(" "))?))
}

/// Text with its marks.
fn inline(text: &str) -> Result<String, String> {
    let mut roff = String::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        let (mark, font) = match character {
            '\\' => {
                let meant = rest.chars().next().ok_or("a backslash at the end")?;
                plain.push(meant);
                rest = &rest[meant.len_utf8()..];
                continue;
            }
            '`' => ("`", "B"),
            '*' if rest.starts_with('*') => ("**", "B"),
            '*' => ("*", "I"),
            other => {
                plain.push(other);
                continue;
            }
        };
        rest = rest.strip_prefix(&mark[1..]).unwrap_or(rest);
        let (marked, after) = rest
            .split_once(mark)
            .ok_or_else(|| format!("'{mark}' without its other half: {text}"))?;
        rest = after;
        flush(&mut roff, &mut plain);
        roff.extend(["\\f", font, &escape(marked), "\\fR"]);
    }
    flush(&mut roff, &mut plain);
    Ok(roff)
}

/// Moves plain text over, guarding a first point only where a line starts.
fn flush(roff: &mut String, plain: &mut String) {
    let escaped = escape(plain);
    roff.push_str(match escaped.strip_prefix("\\&") {
        Some(point) if !roff.is_empty() => point,
        _ => &escaped,
    });
    plain.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> String {
        let mut sections = sections(&format!("# S\n\n{text}\n")).unwrap();
        assert_eq!(sections.len(), 1);
        sections.remove(0).1
    }

    #[test]
    fn paragraphs_and_marks() {
        assert_eq!(
            only("A `-x` and\n*NAME*. **b**"),
            ".PP\nA \\fB\\-x\\fR and \\fINAME\\fR. \\fBb\\fR\n"
        );
        assert_eq!(only(".so `.`x"), ".PP\n\\&.so \\fB\\&.\\fRx\n");
        assert_eq!(only(r"5 \* 3 \\ é"), ".PP\n5 * 3 \\e \\[u00E9]\n");
    }

    #[test]
    fn lists_terms_and_code() {
        assert_eq!(
            only("- one\n  more\n- two"),
            ".IP \\(bu 2\none more\n.IP \\(bu 2\ntwo\n"
        );
        assert_eq!(
            only("`/etc/x`\n:   A file\n    of ours."),
            ".TP\n\\fB/etc/x\\fR\nA file of ours.\n"
        );
        assert_eq!(
            only("```sh\na -b\n\n.c\n```"),
            ".PP\n.RS 4\n.nf\na \\-b\n\n\\&.c\n.fi\n.RE\n"
        );
    }

    #[test]
    fn sections_and_what_is_wrong() {
        let found = sections("# See also\n\nx\n\n# Bugs\n## Old\n").unwrap();
        assert_eq!(found[0].0, "SEE ALSO");
        assert_eq!(found[1], ("BUGS".to_owned(), ".SS Old\n".to_owned()));
        assert!(sections("x\n").unwrap_err().contains("line 1"));
        assert!(sections("# A\n\nx `y\n").unwrap_err().contains("line 3"));
    }
}
