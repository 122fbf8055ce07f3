use super::*;

fn line(text: &str) -> Result<Request, Refused> {
    parse(text.split_whitespace().map(OsString::from))
}

fn run(text: &str) -> Run {
    match line(text).map(|request| request.task) {
        Ok(Task::Run(run)) => run,
        other => panic!("{text}: {other:?}"),
    }
}

fn wrong(text: &str) -> String {
    match line(text) {
        Err(Refused::Wrong(message)) => {
            assert_eq!(message.lines().count(), 1, "{message}");
            message
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn clap_finds_no_mistake_in_the_definition() {
    use clap::CommandFactory;
    CommandLine::command().debug_assert();
    PartLine::command().debug_assert();
}

#[test]
fn no_arguments_mean_the_demo() {
    let expected = Task::Demo(DemoArgs { format: Format::Text });
    assert_eq!(line("tombolo").unwrap().task, expected);
    assert_eq!(line("tombolo demo").unwrap().task, expected);
    assert_eq!(
        line("tombolo demo --format json").unwrap().task,
        Task::Demo(DemoArgs { format: Format::Json })
    );
}

#[test]
fn defaults_are_one_guest_with_one_process() {
    let run = run("tombolo run ./prog");
    assert_eq!(
        (run.timeout, run.prefix, run.processes()),
        (None, Prefix::Auto, 1)
    );
    let part = &run.parts[0];
    assert_eq!(
        (part.guests, part.vcpus, part.procs, part.memory),
        (1, 1, 1, DEFAULT_MEMORY)
    );
    assert_eq!(
        (part.policy.clone(), part.env.len(), part.args.len()),
        (GuestPolicy::Unrestricted, 0, 0)
    );
}

#[test]
fn what_follows_the_program_is_the_programs() {
    let run = run("tombolo run -n 2 ./prog -n 5 --help -v -- --timeout x");
    assert_eq!(run.parts[0].guests, 2);
    assert_eq!(
        run.parts[0].args,
        ["-n", "5", "--help", "-v", "--", "--timeout", "x"]
    );
    assert_eq!(line("tombolo run ./prog -v").unwrap().common.verbose, 0);
}

#[test]
fn a_double_dash_ends_the_options() {
    let run = run("tombolo run -n 2 -- -odd -x");
    assert_eq!(
        (run.parts[0].program.clone(), run.parts[0].args.clone()),
        ("-odd".into(), vec!["-x".into()])
    );
}

#[test]
fn colons_begin_other_parts_with_options_of_their_own() {
    let run = run("tombolo run -n 2 --vcpus 2 --memory 64M ./a 1 : --env X=1 ./b -n 7 : -n 3 --procs 4 c");
    let parts: Vec<_> = run
        .parts
        .iter()
        .map(|part| {
            (
                part.guests,
                part.vcpus,
                part.procs,
                part.program.to_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(parts, [(2, 2, 1, "./a"), (1, 1, 1, "./b"), (3, 1, 4, "c")]);
    assert_eq!(
        (run.parts[0].memory, run.parts[1].memory),
        (64 << 20, DEFAULT_MEMORY)
    );
    assert_eq!(
        (run.parts[1].args.len(), run.parts[1].env.clone()),
        (2, vec![b"X=1".to_vec()])
    );
    assert_eq!(run.processes(), 2 + 1 + 12);
}

#[test]
fn options_of_the_whole_run_stand_before_the_first_colon() {
    let all = "tombolo -v run --timeout 2.5 --prefix always --report r.json -vv ./a : ./b";
    let request = line(all).unwrap();
    assert_eq!(
        request.common,
        Common {
            report: Some("r.json".into()),
            verbose: 2
        }
    );
    assert!(matches!(
        request.task,
        Task::Run(Run {
            timeout: Some(_),
            prefix: Prefix::Always,
            ..
        })
    ));
    for option in [
        "--timeout 3",
        "--shmmni 3",
        "--shmmax 3",
        "--shmall 3",
        "--prefix never",
        "--report x",
        "-v",
    ] {
        let message = wrong(&format!("tombolo run ./a : {option} ./b"));
        assert!(
            message.contains("whole run") && message.contains("part 2"),
            "{message}"
        );
    }
}

#[test]
fn read_only_keys_are_collected() {
    assert_eq!(
        run("tombolo run --read-only 0x4d2 --read-only 7 a").parts[0].policy,
        GuestPolicy::ReadOnlyKeys(vec![1234, 7])
    );
    assert_eq!(
        run("tombolo run --read-only 7 --read-only all a").parts[0].policy,
        GuestPolicy::ReadOnlyAll
    );
}

#[test]
fn limits_are_the_groups_and_quotas_ids_and_files_a_parts() {
    let run = run(
        "tombolo run --shmmni 5 --shmmax 1M --shmall 100 --max-segments 2 --max-bytes 64K --uid 1000 --file a:/b \
         --file /c ./a : --gid 7 ./b",
    );
    let usual = Limits::default();
    assert_eq!(
        run.limits,
        Limits {
            mni: 5,
            max: 1 << 20,
            all: 100,
            ..usual
        }
    );
    let [first, second] = &run.parts[..] else {
        panic!("{run:?}")
    };
    let quota = Quota {
        segments: 2,
        bytes: 65536,
    };
    assert_eq!((first.quota, first.uid, first.gid), (quota, 1000, 0));
    let names: Vec<_> = first
        .files
        .iter()
        .map(|file| {
            (
                file.host.to_str(),
                file.guest.as_deref().and_then(|path| path.to_str()),
            )
        })
        .collect();
    assert_eq!(names, [(Some("a"), Some("/b")), (Some("/c"), None)]);
    assert_eq!((second.quota, second.uid, second.gid), (Quota::default(), 0, 7));
    assert!(second.files.is_empty());
}

#[test]
fn mistakes_are_named_in_one_line() {
    for (text, part) in [
        ("tombolo run", "PROGRAM"),
        ("tombolo run -n 2", "PROGRAM"),
        ("tombolo run : ./b", "before the first `:`"),
        ("tombolo run ./a :", "part 2 (after a `:`): no PROGRAM"),
        ("tombolo run ./a : : ./b", "part 2 (after a `:`): no PROGRAM"),
        ("tombolo run ./a : -n 2", "PROGRAM"),
        ("tombolo run -n 0 a", "1 to 256"),
        ("tombolo run -n 1000000000 a", "1 to 256"),
        ("tombolo run -n -1 a", "1 to 256"),
        ("tombolo run -n 200 a : -n 57 b", "257 guests in all"),
        ("tombolo run --vcpus 0 a", "1 to 16"),
        ("tombolo run --vcpus 17 a", "1 to 16"),
        ("tombolo run --procs 0 a", "1 to 256"),
        ("tombolo run --memory 0 a", "at least 16M"),
        ("tombolo run --memory 1K a", "at least 16M"),
        ("tombolo run --memory -1 a", "such as 64M"),
        ("tombolo run --timeout -3 a", "above 0"),
        ("tombolo run --timeout 0 a", "above 0"),
        ("tombolo run --env X a", "NAME=value"),
        ("tombolo run --read-only foo a", "0x4d2"),
        ("tombolo run --prefix sometimes a", "auto, always, never"),
        ("tombolo run --shmmni 32769 a", "0 to 32768"),
        ("tombolo run --shmmax x a", "such as 64M"),
        ("tombolo run --shmall -1 a", "pages"),
        ("tombolo run --uid 4294967295 a", "0 to 4294967294"),
        ("tombolo run --file x:y a", "must be absolute"),
        ("tombolo run --max-bytes -1 a", "such as 64M"),
        ("tombolo run --memry 64M a", "--memory"),
        ("tombolo frobnicate", "frobnicate"),
        ("tombolo demo x", "x"),
        ("tombolo demo --format xml", "json"),
    ] {
        let message = wrong(text);
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn an_empty_program_name_is_a_mistake() {
    let words = ["tombolo", "run", ""].map(OsString::from);
    assert!(matches!(parse(words), Err(Refused::Wrong(text)) if text.contains("empty")));
}

#[test]
fn help_is_shown_and_teaches_by_example() {
    for (text, part) in [
        ("tombolo --help", "tombolo run -n 2"),
        ("tombolo run --help", "Exit status"),
        ("tombolo run --help", "[: [OPTIONS] PROGRAM"),
        ("tombolo demo --help", "--format"),
        ("tombolo --version", env!("CARGO_PKG_VERSION")),
    ] {
        match line(text) {
            Err(Refused::Shown(error)) => {
                assert!(error.render().to_string().contains(part), "{text}: {error}")
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}
