//! The ground that the other guest tests stand on.

use std::fs;

use testkit::guest::Guest;

#[test]
fn a_guest_boots_runs_its_script_and_halts() {
    let dir = tempfile::tempdir().unwrap();
    let guest = Guest::new("boot", dir.path(), "uname -r; echo $((6 * 7)) >/mnt/answer").start();
    let console = guest.halted();
    assert!(
        console.contains("the script ended with status 0"),
        "{console}"
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("answer")).unwrap(),
        "42\n"
    );
}
