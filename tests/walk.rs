//! The first command of the README.

use crate::harness::{both, mastio};

#[test]
fn the_demo_walks_through_the_main_job_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("mastio-demo");
    let output = mastio(&["demo", "--once", "--dir", dir.to_str().unwrap()], &[]).output().unwrap();
    let said = both(&output);
    assert!(output.status.success(), "{said}");
    let mut rest = &*said;
    for step in ["boot", "own CA", "enroll", "log in", "call", "message", "deactivate", "audit"] {
        let done = format!("✓ {step} ");
        rest =
            rest.split_once(&done).unwrap_or_else(|| panic!("{step} is missing or out of order: {said}")).1;
    }
}
