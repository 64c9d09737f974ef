//! `log TEXT`: text for the guest's kernel log, in as many requests as it takes.

use std::io::{self, Read};

/// What stands before the text in each request.
const WORD: &[u8] = b"log ";

/// The most text in one request, in bytes: the request holds one byte less than it could, as
/// scripts that watch a guest's log have always seen it cut.
const MAX_TEXT: usize = 510 - WORD.len();

/// The requests for a text, read as they are asked for. A last newline is added where there is
/// none, in a request of its own.
#[derive(Debug)]
pub struct Requests<R> {
    text: R,
    last: Option<u8>,
    finished: bool,
}

impl<R: Read> Requests<R> {
    /// The requests for this text.
    pub fn new(text: R) -> Self {
        Self {
            text,
            last: None,
            finished: false,
        }
    }

    fn next_text(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut piece = Vec::with_capacity(MAX_TEXT);
        let room = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX);
        self.text.by_ref().take(room).read_to_end(&mut piece)?;
        if piece.is_empty() {
            self.finished = true;
            let newline = (self.last != Some(b'\n')).then(|| vec![b'\n']);
            return Ok(newline);
        }
        self.last = piece.last().copied();
        Ok(Some(piece))
    }
}

impl<R: Read> Iterator for Requests<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let text = self.next_text().transpose()?;
        if text.is_err() {
            self.finished = true;
        }
        Some(text.map(|text| [WORD, &text].concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(text: &[u8]) -> Vec<Vec<u8>> {
        Requests::new(text).map(Result::unwrap).collect()
    }

    #[test]
    fn a_last_newline_is_added_where_there_is_none() {
        assert_eq!(requests(b"hi"), [&b"log hi"[..], b"log \n"]);
        assert_eq!(requests(b"hi\n"), [b"log hi\n"]);
        assert_eq!(requests(b""), [b"log \n"]);
    }

    #[test]
    fn long_text_goes_in_pieces() {
        let text = [b'a'; 1200];
        let lengths: Vec<usize> = requests(&text).iter().map(Vec::len).collect();
        assert_eq!(lengths, [510, 510, 4 + 188, 5]);
        let lengths: Vec<usize> = requests(&[b'\n'; 506]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [510]);
    }
}
