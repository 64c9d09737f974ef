use super::*;

fn file(parts: &[(u64, &[u8])], length: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(length).unwrap();
    for (offset, bytes) in parts {
        file.write_all_at(bytes, *offset).unwrap();
    }
    file
}

fn all(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; index(file.metadata().unwrap().len())];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn data_is_found_between_holes() {
    let file = file(&[(1 << 20, &[1; BLOCK]), (3 << 20, &[2; 10])], 8 << 20);
    let first = next_data(&file, 0..8 << 20).unwrap().unwrap();
    assert!(
        first.contains(&(1 << 20)) && first.end <= 3 << 20,
        "{first:?}"
    );
    let second = next_data(&file, first.end..8 << 20).unwrap().unwrap();
    assert!(second.contains(&(3 << 20)), "{second:?}");
    assert_eq!(next_data(&file, second.end..8 << 20).unwrap(), None);
    assert_eq!(next_data(&file, 0..1 << 19).unwrap(), None);
    assert_eq!(next_data(&file, 16 << 20..17 << 20).unwrap(), None);
    assert_eq!(next_data(&file, 5..5).unwrap(), None);
    let inside = (1 << 20) + 5..(1 << 20) + 9;
    assert_eq!(next_data(&file, inside.clone()).unwrap(), Some(inside));
}

#[test]
fn everything_is_data_where_there_are_no_holes() {
    // A character device answers as a file system without SEEK_DATA does, or knows no size.
    let zero = File::open("/dev/zero").unwrap();
    let data = next_data(&zero, 0..100).unwrap();
    assert!(data.is_none_or(|data| data == (0..100)));
}

#[test]
fn zeros_are_told_at_every_length_and_place() {
    for length in [0, 1, 7, 63, 64, 65, 128, 200, BLOCK] {
        let mut bytes = vec![0; length];
        assert!(is_zero(&bytes));
        for place in 0..length {
            bytes[place] = 0x80;
            assert!(!is_zero(&bytes), "{length} {place}");
            bytes[place] = 0;
        }
    }
}

#[test]
fn non_zero_parts_are_whole_blocks() {
    let mut bytes = vec![0; 5 * BLOCK + 3];
    assert_eq!(non_zero_parts(&bytes).count(), 0);
    bytes[BLOCK + 1] = 1;
    bytes[3 * BLOCK - 1] = 1;
    bytes[5 * BLOCK + 2] = 1;
    let parts: Vec<_> = non_zero_parts(&bytes).collect();
    assert_eq!(parts, [BLOCK..3 * BLOCK, 5 * BLOCK..5 * BLOCK + 3]);
    assert_eq!(non_zero_parts(&[]).count(), 0);
}

#[test]
fn a_punched_range_reads_as_zeros() {
    let file = file(&[(0, &[7; 4 * BLOCK])], 4 * BLOCK as u64);
    let hole = BLOCK as u64..3 * BLOCK as u64;
    if punch_hole(&file, &hole).unwrap() {
        let bytes = all(&file);
        assert!(is_zero(&bytes[BLOCK..3 * BLOCK]));
        assert!(
            bytes[..BLOCK]
                .iter()
                .chain(&bytes[3 * BLOCK..])
                .all(|&byte| byte == 7)
        );
    }
}

#[test]
fn copies_are_equal_whichever_way_they_go() {
    let bytes: Vec<u8> = (0..u32::try_from(COPY_WINDOW).unwrap() * 2 + 999)
        .map(|n| n.to_le_bytes()[1])
        .collect();
    let source = file(&[(0, &bytes)], bytes.len() as u64);
    let range = 100..bytes.len() as u64 - 7;
    let expected = &bytes[100..bytes.len() - 7];
    for way in [
        copy_range,
        copy_by_hand,
        |source: &File, range: Range<u64>, target: &File, to| {
            let copied = copy_inside_kernel(source, &range, target, to)?;
            copy_by_hand(source, range.start + copied..range.end, target, to + copied)
        },
    ] {
        let target = file(&[], 0);
        way(&source, range.clone(), &target, 5).unwrap();
        assert_eq!(&all(&target)[5..], expected);
    }
}

#[test]
fn a_copy_behind_the_end_is_an_error() {
    let source = file(&[], 100);
    let error = copy_range(&source, 50..200, &file(&[], 0), 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn reads_stop_at_the_end() {
    let source = file(&[(0, b"abc")], 3);
    let mut buffer = [9; 5];
    assert_eq!(read_up_to(&source, &mut buffer, 1).unwrap(), 2);
    assert_eq!(&buffer, b"bc\x09\x09\x09");
}
