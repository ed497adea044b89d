//! A file stands for the device: what is written to it, and what is not.

use std::path::Path;

use super::*;

fn timing(target: Millis) -> Timing {
    Timing::derive(target, 600_000).unwrap()
}

/// A file that takes every timeout, as a device does.
fn place(path: &Path) -> Place {
    Place {
        path: path.to_owned(),
        is_machine: || Ok(true),
        identity: |_| Ok(SOFTWARE.to_owned()),
        set_timeout: |_, seconds| Ok(seconds),
    }
}

fn open(path: &Path) -> Watchdog {
    Watchdog::open(config::Watchdog::Required, &timing(4_000), place(path)).unwrap()
}

/// A file in a folder of its own, and what was written to it in the end.
fn written(act: impl FnOnce(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watchdog");
    fs::write(&path, "").unwrap();
    act(&path);
    fs::read(path).unwrap()
}

fn failure(target: Millis, place: Place) -> String {
    match Watchdog::open(config::Watchdog::Required, &timing(target), place) {
        Ok(_) => panic!("armed"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn it_is_fed_as_it_is_opened_and_then_four_times_in_its_timeout() {
    let bytes = written(|path| {
        let mut watchdog = open(path);
        assert_eq!(fs::read(path).unwrap(), b"\0", "before anything else of the start");
        let begin = watchdog.due().unwrap();
        for ms in 0..1000 {
            watchdog.feed(begin + ms);
        }
    });
    assert_eq!(bytes, b"\0\0\0\0\0", "and not let go by closing it");
}

#[tokio::test]
async fn it_is_fed_while_the_manager_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watchdog");
    fs::write(&path, "").unwrap();
    let mut watchdog = open(&path);
    watchdog.every_ms = 1;
    watchdog.due = Some(0);
    let work = async {
        while fs::read(&path).unwrap().len() < 4 {
            tokio::task::yield_now().await;
        }
        "started"
    };
    assert_eq!(watchdog.fed_while(work).await, "started");
}

#[test]
fn how_the_manager_ends_decides_whether_it_is_let_go() {
    let cases: [(Left, usize, &[u8]); 6] = [
        (Left::Nothing, 0, b"\0V"),
        (Left::Nothing, 1, b"\0"),
        (Left::ToOperators, 0, b"\0V"),
        (Left::ToOperators, 1, b"\0V"),
        // Fed once more, with a longer timeout.
        (Left::ToSuccessor, 0, b"\0\0"),
        (Left::Stuck, 0, b"\0"),
    ];
    for (left, working, expected) in cases {
        assert_eq!(written(|path| open(path).end(left, working)), expected, "{left:?} {working}");
    }
    assert_eq!(written(|path| open(path).not_started()), b"\0V");
}

#[test]
fn a_device_that_cannot_wait_for_the_next_program_is_let_go() {
    let bytes = written(|path| {
        let impatient = Place {
            set_timeout: |_, seconds| {
                if seconds > 5 { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(seconds) }
            },
            ..place(path)
        };
        let watchdog = Watchdog::open(config::Watchdog::Auto, &timing(4_000), impatient).unwrap();
        watchdog.end(Left::ToSuccessor, 0);
    });
    assert_eq!(bytes, b"\0V");
}

#[test]
fn one_that_would_come_too_late_is_let_go_and_not_used() {
    let bytes = written(|path| {
        let slow = Place { set_timeout: |_, _| Ok(16), ..place(path) };
        assert!(
            failure(4_000, slow).contains("does not go below 16 s, and half the holder lease allows 1 s")
        );
    });
    assert_eq!(bytes, b"V");
    let bytes = written(|path| {
        let dumb = Place { set_timeout: |_, _| Err(io::ErrorKind::Unsupported.into()), ..place(path) };
        assert!(failure(4_000, dumb).contains("set the timeout of Software Watchdog to 1 s"));
    });
    assert_eq!(bytes, b"V");
}

#[test]
fn with_short_times_and_in_a_container_it_is_not_even_opened() {
    let bytes = written(|path| {
        let text = failure(Timing::FAST_MS, place(path));
        assert!(
            text.contains("half the holder lease of 1200 ms is less than a device's whole second"),
            "{text}"
        );
        let inside = || Place { is_machine: || Ok(false), ..place(path) };
        let opened = Watchdog::open(config::Watchdog::Required, &timing(4_000), inside());
        assert!(opened.is_err_and(|error| format!("{error:#}").contains("this is a container")));
        let off = Watchdog::open(config::Watchdog::Off, &timing(4_000), place(path)).unwrap();
        off.end(Left::Stuck, 3);
    });
    assert_eq!(bytes, b"");
}
