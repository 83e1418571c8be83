//! Every input of the corpus, on stable and without a fuzzer.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use ms_fuzz::TARGETS;

#[test]
fn the_corpus_holds_nothing_that_breaks_a_reader() {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        for file in &files {
            println!("{}", file.display());
            (target.run)(&fs::read(file).unwrap());
        }
    }
}

#[test]
fn every_input_without_a_byte_is_read_too() {
    TARGETS.iter().for_each(|target| (target.run)(&[]));
}
