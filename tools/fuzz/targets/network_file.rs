//! The network file of `tunctl --apply`: what is accepted means the same when its TOML is written
//! anew in another form; what isn't is told, each mistake on one line with the number of a line of
//! the file, in their order.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tunctl::network::meaning;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let file = Path::new("f");
    match meaning(file, text) {
        Ok(meant) => {
            let table: toml::Table = text.parse().expect("the same TOML");
            let written = toml::to_string(&table).expect("what was read");
            let pretty = toml::to_string_pretty(&table).expect("what was read");
            for again in [written, pretty] {
                assert_eq!(meaning(file, &again).as_ref(), Ok(&meant), "{again}");
            }
        }
        Err(lines) => {
            assert!(!lines.is_empty());
            let mut before = 1;
            let last = text.matches('\n').count() + 1;
            for line in lines {
                assert!(!line.contains(char::is_control), "{line:?}");
                let rest = line.strip_prefix("f:").expect("the file");
                let (number, what) = rest.split_once(": ").expect("a line");
                let number: usize = number.parse().expect("its number");
                assert!(
                    (before..=last).contains(&number) && !what.is_empty(),
                    "{line}"
                );
                before = number;
            }
        }
    }
});
