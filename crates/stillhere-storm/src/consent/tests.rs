use super::*;
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread;

use crate::plan::{self, Asked, Load, Mode, Search, Sought, Step, Target, Times};

fn plan() -> Plan {
    let attack = plan::Attack {
        name: "garbage".to_owned(),
        count: 100,
        rate: Some(20.0),
        size: 1000,
        interval: Duration::from_secs(1),
    };
    let crowd = plan::Crowd {
        count: 200,
        mode: Mode::V1,
        interval: Duration::from_secs(1),
        rooms: 0,
        say_every: None,
        signal_every: None,
        newcomers_per_second: 0.0,
    };
    let seconds = Duration::from_secs;
    Plan {
        name: "test".to_owned(),
        about: String::new(),
        target: Target { address: String::new(), metrics: None, pid: None, command: Vec::new(), ready: seconds(1) },
        time: Times { ramp: seconds(1), before: seconds(2), during: seconds(4), after: seconds(3) },
        crowd: Some(crowd),
        attacks: vec![attack.clone(), plan::Attack { count: 50, rate: Some(5.0), ..attack }],
        load: Some(Load {
            what: Asked::Beat,
            connections: 10,
            steps: vec![Step { from: 1.0, to: 30.0, lasts: seconds(4) }],
            closed: false,
        }),
        search: None,
        frame: None,
        thresholds: Vec::new(),
        seed: 1,
    }
}

fn search(find: Sought, max: u64) -> Option<Search> {
    Some(Search { find, from: 1, max, precision: 0.1, trials: 5 })
}

#[test]
fn this_machine_needs_no_consent_and_others_do() {
    for own in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(is_own(own.parse().unwrap()), "{own}");
    }
    for other in ["10.0.0.1:1", "0.0.0.0:1", "192.168.1.1:1", "[::]:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1"] {
        assert!(!is_own(other.parse().unwrap()), "{other}");
    }
}

#[test]
fn what_a_plan_wants_is_its_largest_trial() {
    let wants = Wants::of(&plan(), 7);
    let expected = Wants { port: 7, attackers: 150, connections: 360, rate: Some(55.0), lasts_ms: 10_000 };
    assert_eq!(wants, expected);
    let of = |find, max| Wants::of(&Plan { search: search(find, max), ..plan() }, 7);
    assert_eq!((of(Sought::Attackers, 1000).attackers, of(Sought::Attackers, 1000).connections), (1050, 1260));
    assert_eq!((of(Sought::Crowd, 900).attackers, of(Sought::Crowd, 900).connections), (150, 1060));
    assert_eq!(of(Sought::Rate, 500).rate, Some(525.0));
    let mut unbounded = plan();
    unbounded.attacks[0].rate = None;
    assert_eq!(Wants::of(&unbounded, 7).rate, None);
}

#[test]
fn a_grant_admits_a_plan_up_to_each_of_its_caps() {
    let until = Instant::now() + Duration::from_secs(60);
    let grant = Grant { attackers_max: 150, connections_max: 360, rate_max: Some(55.0), until };
    grant.admits(&plan()).unwrap();
    for (grant, says) in [
        (Grant { attackers_max: 149, ..grant }, "149 are allowed"),
        (Grant { connections_max: 359, ..grant }, "359 are allowed"),
        (Grant { rate_max: Some(54.0), ..grant }, "a `rate`"),
        (Grant { until: Instant::now() + Duration::from_secs(9), ..grant }, "make it shorter"),
    ] {
        let said = grant.admits(&plan()).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let search = Plan { search: search(Sought::Attackers, 10_000), ..plan() };
    assert!(grant.admits(&search).is_err());
}

/// Runs a consent for port 14000 beside a test, which gets its address and code.
fn with_consent(test: impl FnOnce(SocketAddr, &Code, &mpsc::Receiver<Told>)) {
    let options = ConsentOptions {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ports: vec![14_000],
        attackers_max: 100,
        connections_max: 500,
        rate_max: None,
        lasts: Duration::from_secs(30),
    };
    let consent = Consent::bind(options).unwrap();
    let (address, code) = (consent.address(), consent.code().clone());
    let (stop, (told, tells)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
    thread::scope(|scope| {
        let stopped = stop.clone();
        scope.spawn(move || consent.run(move |what| drop(told.send(what)), &stopped));
        test(address, &code, &tells);
        stop.store(true, Ordering::Relaxed);
    });
}

fn wants() -> Wants {
    Wants { port: 14_000, attackers: 100, connections: 500, rate: None, lasts_ms: 10_000 }
}

#[test]
fn whoever_has_the_code_is_granted_what_the_owner_allows() {
    with_consent(|address, code, told| {
        let (host, port) = (address.ip(), address.port());
        let grant = ask(host, port, code, &wants()).unwrap();
        assert_eq!((grant.attackers_max, grant.connections_max, grant.rate_max), (100, 500, None));
        let left = grant.until.saturating_duration_since(Instant::now());
        assert!(left > Duration::from_secs(20) && left <= Duration::from_secs(30), "{left:?}");
        assert!(matches!(told.recv().unwrap(), Told::Granted(_, asked) if asked == wants()));

        let more = Wants { attackers: 101, ..wants() };
        let said = ask(host, port, code, &more).unwrap_err();
        assert!(matches!(&said, ConsentError::Refused(why) if why.contains("100 attackers")), "{said}");
        assert!(matches!(told.recv().unwrap(), Told::Refused(..)));

        let said = ask(host, port, &Code::random().unwrap(), &wants()).unwrap_err();
        assert!(matches!(said, ConsentError::WrongCode(_)), "{said}");
        assert!(matches!(told.recv().unwrap(), Told::WrongCode(_, 1)));
    });
}

#[test]
fn nobody_and_strangers_give_no_consent() {
    let code = Code::random().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A service that says yes to everything, without the code.
    let stranger = thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let zero = [0; wire::PROOF_BYTES];
        stream.write_all(&wire::frame(&zero, br#"{"v":1,"nonce":"00"}"#)).unwrap();
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        stream.read_exact(&mut body).unwrap();
        let yes = br#"{"granted":{"attackers_max":9,"connections_max":9,"rate_max":null,"remaining_ms":9}}"#;
        stream.write_all(&wire::frame(&zero, yes)).unwrap();
        let again = listener.accept().unwrap().0;
        again.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let said = ask(address.ip(), address.port(), &code, &wants()).unwrap_err();
    assert!(matches!(said, ConsentError::WrongCode(_)), "{said}");
    let said = ask(address.ip(), address.port(), &code, &wants()).unwrap_err();
    assert!(matches!(said, ConsentError::Silent { .. }), "{said}");
    stranger.join().unwrap();
    let said = ask(address.ip(), address.port(), &code, &wants()).unwrap_err();
    assert!(matches!(said, ConsentError::Nobody(_)) && said.to_string().contains("storm consent"), "{said}");
}

#[test]
fn a_storm_goes_on_while_it_is_renewed_and_ends_when_it_is_withdrawn() {
    let address = SocketAddr::from(([192, 0, 2, 1], 1));
    let until = Instant::now();
    let granted = || Ok(Grant { attackers_max: 1, connections_max: 1, rate_max: None, until });
    let silent = || Err(ConsentError::Silent { address, why: String::new() });
    let (over, every) = (AtomicBool::new(false), Duration::from_millis(1));
    let run = |script: &[u8]| {
        over.store(false, Ordering::Relaxed);
        let mut script = script.iter();
        let mut asked = 0;
        let result = renew_every(every, &over, || {
            asked += 1;
            match script.next() {
                Some(b'g') => granted(),
                Some(b's') => silent(),
                Some(_) => Err(ConsentError::Nobody(address)),
                None => {
                    over.store(true, Ordering::Relaxed);
                    granted()
                }
            }
        });
        (result.is_ok(), asked)
    };
    // One silence is forgiven, two in a row are not, and a closed port ends it at once.
    assert_eq!(run(b"gsgsg"), (true, 6));
    assert_eq!(run(b"gssgg"), (false, 3));
    assert_eq!(run(b"ggn"), (false, 3));
}

#[test]
fn a_storm_ends_with_its_grant() {
    let over = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_millis(120);
    let grant = Grant { attackers_max: 1, connections_max: 1, rate_max: None, until };
    let said = keep_to(&grant, &over).unwrap_err().to_string();
    assert!(said.contains("is over") && Instant::now() >= until, "{said}");
    // A run that has ended needs none any more.
    over.store(true, Ordering::Relaxed);
    keep_to(&Grant { until: Instant::now() + Duration::from_secs(60), ..grant }, &over).unwrap();
}
