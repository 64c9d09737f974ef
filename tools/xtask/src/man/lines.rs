//! Lines of man pages as the linters want them.

/// The longest line of text that is left as it is, in bytes.
const WIDTH: usize = 79;

/// Strips blanks from the ends of lines, wraps lines of text, turns empty lines of text into new
/// paragraphs, and leaves out paragraph requests right after a heading, where they mean nothing. What
/// stands between `.nf` and `.fi` keeps its lines.
pub(super) fn tidy(page: &str) -> String {
    let mut tidied = String::new();
    let mut verbatim = false;
    let mut tagged = false;
    let mut headed = false;
    for line in page.lines() {
        let line = line.trim_end();
        let request = line.split(' ').next().unwrap_or_default();
        match request {
            ".nf" => verbatim = true,
            ".fi" => verbatim = false,
            ".TP" => tagged = true,
            ".SH" | ".SS" | ".PP" => tagged = false,
            _ => {}
        }
        if headed && line == ".PP" {
            continue;
        }
        headed = matches!(request, ".SH" | ".SS");
        if verbatim || request.starts_with('.') || request.starts_with('\'') {
            push(&mut tidied, line);
        } else if line.is_empty() {
            // Within a tagged paragraph the text goes on under the tag.
            push(&mut tidied, if tagged { ".IP" } else { ".PP" });
        } else {
            wrap(&mut tidied, line);
        }
    }
    tidied
}

fn push(page: &mut String, line: &str) {
    page.push_str(line);
    page.push('\n');
}

/// Sets what stands between backticks in bold, in lines that have them in pairs.
pub(super) fn code_in_bold(text: &str) -> String {
    let mut bold = String::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split('`').collect();
        if parts.len() % 2 == 0 {
            bold.push_str(line);
        } else {
            for (index, part) in parts.iter().enumerate() {
                bold.push_str(match index {
                    0 => "",
                    odd if odd % 2 == 1 => "\\fB",
                    _ => "\\fR",
                });
                bold.push_str(part);
            }
        }
        bold.push('\n');
    }
    bold
}

/// Breaks at blanks, never so that a line starts as a request would.
fn wrap(page: &mut String, line: &str) {
    let mut used = 0;
    for word in line.split(' ') {
        let fits = used + 1 + word.len() <= WIDTH;
        if used > 0 && (fits || word.is_empty() || word.starts_with(['.', '\''])) {
            page.push(' ');
            used += 1;
        } else if used > 0 {
            page.push('\n');
            used = 0;
        }
        page.push_str(word);
        used += word.len();
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_but_no_request_comes_of_it() {
        let long = format!("{} .so x 'y {}", "word ".repeat(15).trim(), "w".repeat(90));
        let tidied = tidy(&long);
        assert!(tidied.lines().all(|line| !line.starts_with(['.', '\''])));
        assert_eq!(tidied.replace('\n', " ").trim_end(), long);
        assert!(tidied.lines().next().unwrap().len() <= WIDTH);
    }

    #[test]
    fn code_is_bold() {
        assert_eq!(
            code_in_bold("a `b` `c`\nd ` e"),
            "a \\fBb\\fR \\fBc\\fR\nd ` e\n"
        );
    }

    #[test]
    fn no_paragraph_right_after_a_heading() {
        assert_eq!(
            tidy(".SH X\n.PP\n.RS 4\n.PP\na\n"),
            ".SH X\n.RS 4\n.PP\na\n"
        );
    }

    #[test]
    fn empty_lines_become_paragraphs_but_not_in_code() {
        let page = ".SH X\na\n\nb\n.TP\nc\nd\n\ne\n.nf\nf\n\ng\n.fi\n";
        let expected = ".SH X\na\n.PP\nb\n.TP\nc\nd\n.IP\ne\n.nf\nf\n\ng\n.fi\n";
        assert_eq!(tidy(page), expected);
    }
}
