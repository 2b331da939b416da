//! Broken configurations and what is said of them.
//!
//! `tests/broken/NN-name.toml` is a file with mistakes, `NN-name.txt` the whole text a person gets for it when the file
//! is given by its name alone, from within its folder. `SEXTANT_BLESS=1 cargo test -p control --test config_errors`
//! writes the texts anew; review the difference.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use control::config::{self, Errors};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

/// Files of the folder with this extension, without it, in order.
fn stems(extension: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder()).expect("the folder of broken files");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let wanted = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    let stems = wanted.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    stems.collect()
}

/// Errors of each broken file, by its name.
fn all_errors() -> Vec<(String, Errors)> {
    // The file's name is part of the text, as it was given. Every test here moves to the same folder.
    std::env::set_current_dir(folder()).expect("the folder of broken files");
    let load = |stem: String| match config::load(Path::new(&format!("{stem}.toml"))) {
        Ok(_) => panic!("{stem}.toml is taken for right"),
        Err(errors) => (stem, errors),
    };
    stems("toml").into_iter().map(load).collect()
}

#[test]
fn every_broken_file_gets_its_golden_text() {
    let bless = std::env::var_os("SEXTANT_BLESS").is_some();
    let mut different = Vec::new();
    for (stem, errors) in all_errors() {
        let golden = folder().join(format!("{stem}.txt"));
        let found = errors.render(false);
        if bless {
            std::fs::write(&golden, &found).expect("the golden text can be written");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            different.push(format!(
                "--- {stem}: expected\n{expected}--- found\n{found}"
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn there_are_many_and_each_has_a_text() {
    let files = stems("toml");
    assert!(files.len() >= 40, "{}", files.len());
    assert_eq!(files, stems("txt"));
}

/// Every error names file, line and column before anything else, in the order of the file, and the line exists.
#[test]
fn every_error_is_located() {
    for (stem, errors) in all_errors() {
        let bytes = std::fs::read(folder().join(format!("{stem}.toml"))).expect("the file");
        let text = String::from_utf8_lossy(&bytes);
        let rendered = errors.render(false);
        let mut last = (1, 1);
        for error in errors.as_slice() {
            let here = (error.line(), error.column());
            assert!(here >= last, "{stem}: {here:?} after {last:?}");
            assert!(
                error.line() <= text.split('\n').count(),
                "{stem}: {error:?}"
            );
            last = here;
            let location = format!("{stem}.toml:{}:{}: ", error.line(), error.column());
            assert!(
                rendered.lines().any(|line| line.starts_with(&location)),
                "{stem}: {error:?}"
            );
        }
    }
}

/// Each kind of error has a broken file, except those that no file kept here can have.
#[test]
fn every_kind_of_error_is_shown() {
    let without_a_file = ["Unreadable", "TooLong"];
    let source = include_str!("../src/config/problem.rs");
    let (_, body) = source.split_once("pub enum Problem {").expect("the enum");
    let (body, _) = body.split_once("\n}\n").expect("its end");
    let variants = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?.split(['(', ' ', ',']).next()?;
        name.starts_with(|c: char| c.is_ascii_uppercase())
            .then_some(name)
    });
    let variants: BTreeSet<_> = variants
        .filter(|name| !without_a_file.contains(name))
        .collect();
    assert!(variants.len() > 25, "{variants:?}");
    let errors = all_errors();
    let problems = errors
        .iter()
        .flat_map(|(_, errors)| errors.as_slice())
        .map(|e| format!("{:?}", e.problem()));
    let shown: Vec<String> = problems.collect();
    for variant in variants {
        let is_shown = shown
            .iter()
            .any(|problem| problem.split(['(', ' ']).next() == Some(variant));
        assert!(is_shown, "no broken file shows {variant}");
    }
}

#[test]
fn colour_changes_no_word() {
    for (stem, errors) in all_errors() {
        let plain: String = errors.render(false);
        let coloured = errors.render(true);
        assert_ne!(plain, coloured, "{stem}");
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, escape)) = rest.split_once("\u{1b}[") {
            stripped.push_str(before);
            rest = escape.split_once('m').expect("the end of the escape").1;
        }
        stripped.push_str(rest);
        assert_eq!(stripped, plain, "{stem}");
    }
}

#[test]
fn a_file_that_is_not_there_is_one_sentence() {
    let errors =
        config::load(Path::new("/nonexistent/sextant.toml")).expect_err("there is no such file");
    let expected = "/nonexistent/sextant.toml: cannot be read: No such file or directory (os error 2)\n\n\
                    /nonexistent/sextant.toml: 1 error\n";
    assert_eq!(errors.to_string(), expected);
    let errors = config::load(Path::new("/dev/zero")).expect_err("a device is no configuration");
    assert!(
        errors.to_string().starts_with("/dev/zero: longer than "),
        "{errors}"
    );
}

#[test]
fn every_example_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let host = config::Host::new((0..16).collect());
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of examples") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let text = std::fs::read_to_string(&path).expect("an example");
            let name = path.display().to_string();
            if config::mapserver::is_one(&path) {
                config::mapserver::parse(&name, &text).unwrap_or_else(|errors| panic!("{errors}"));
            } else {
                config::parse_for(&name, &text, &host).unwrap_or_else(|errors| panic!("{errors}"));
            }
            count += 1;
        }
    }
    assert!(count >= 3, "{count} examples");
}
