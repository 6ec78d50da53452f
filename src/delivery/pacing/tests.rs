use super::*;

fn credential(n: u8) -> CredentialDigest {
    CredentialDigest::of(&[n; 32], &AccountKey::Origin { namespace: "n".into(), origin: "o".into() }, &[])
}

fn lane(name: &str) -> LaneKey {
    LaneKey { namespace: "ns".into(), webhook: name.into() }
}

fn setup(credential_number: u8) -> LaneSetup {
    LaneSetup {
        uid: "u".into(),
        generation: 1,
        account: AccountKey::CleverTap { host: "h".into(), account_id: "a".into() },
        account_limit: 15,
        credential: credential(credential_number),
        max_in_flight: 15,
        suspended: false,
    }
}

struct Bench {
    pacing: Pacing,
    now: Instant,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        Self { pacing: Pacing::default(), now: Instant::now(), next: 0 }
    }

    fn enqueue(&mut self, name: &str, count: usize) -> Vec<Ticket> {
        self.enqueue_for(&lane(name), "c", count)
    }

    fn enqueue_for(&mut self, lane: &LaneKey, campaign: &str, count: usize) -> Vec<Ticket> {
        (0..count)
            .map(|_| {
                self.next += 1;
                let sender = Sender { campaign: campaign.into(), coupon: self.next.to_string() };
                assert!(self.pacing.enqueue(lane, sender, Ticket(self.next)));
                Ticket(self.next)
            })
            .collect()
    }

    fn grant(&mut self) -> Vec<Ticket> {
        self.pacing.grant(self.now)
    }

    fn finish(&mut self, ticket: Ticket, lesson: Lesson) {
        self.pacing.finish(ticket, lesson, "said", self.now);
    }

    fn finish_all(&mut self, tickets: &[Ticket], lesson: Lesson) {
        for ticket in tickets {
            self.finish(*ticket, lesson);
        }
    }

    /// A lane whose credential and generation are proven.
    fn proven(&mut self, name: &str, setup: LaneSetup) {
        self.pacing.set_lane(&lane(name), setup);
        self.enqueue(name, 1);
        for ticket in self.grant() {
            self.finish(ticket, Lesson::Proven);
        }
    }
}

#[test]
fn what_is_not_proven_sends_one_request_and_waits() {
    let mut bench = Bench::new();
    bench.pacing.set_lane(&lane("w"), setup(1));
    bench.enqueue("w", 5);
    let first = bench.grant();
    assert_eq!(first.len(), 1);
    assert!(bench.grant().is_empty());
    bench.finish(first[0], Lesson::Nothing);
    let second = bench.grant();
    assert_eq!(second.len(), 1, "an unknown outcome proves nothing");
    bench.finish(second[0], Lesson::Proven);
    assert_eq!(bench.grant().len(), 3);
}

#[test]
fn a_refused_credential_costs_one_request_for_all_its_webhooks_and_nobody_elses() {
    let mut bench = Bench::new();
    for (name, credential) in [("wrong", 1), ("also-wrong", 1), ("right", 2)] {
        bench.pacing.set_lane(&lane(name), setup(credential));
    }
    bench.enqueue("right", 20);
    let wrong = bench.enqueue("wrong", 5);
    let also = bench.enqueue("also-wrong", 5);
    let granted = bench.grant();
    let refused: Vec<Ticket> = granted.iter().copied().filter(|t| wrong.contains(t) || also.contains(t)).collect();
    assert_eq!((granted.len(), refused.len()), (2, 1));
    for ticket in &granted {
        let lesson = if refused.contains(ticket) { Lesson::CredentialRefused } else { Lesson::Proven };
        bench.finish(*ticket, lesson);
    }
    let after = bench.grant();
    assert_eq!(after.len(), 15, "the account goes on");
    assert!(after.iter().all(|t| !wrong.contains(t) && !also.contains(t)));
    assert_eq!(bench.pacing.pause(&lane("also-wrong")), Some(Pause::Credential { message: "said".into() }));
    assert_eq!(bench.pacing.pause(&lane("right")), None);
}

#[test]
fn a_mended_credential_goes_on_by_itself_and_so_does_an_edited_webhook() {
    for mended in [LaneSetup { credential: credential(9), ..setup(1) }, LaneSetup { generation: 2, ..setup(1) }] {
        let mut bench = Bench::new();
        bench.pacing.set_lane(&lane("w"), setup(1));
        bench.enqueue("w", 3);
        let first = bench.grant();
        bench.finish(first[0], Lesson::CredentialRefused);
        bench.pacing.set_lane(&lane("w"), setup(1));
        assert!(bench.grant().is_empty(), "the same again changes nothing");
        bench.pacing.set_lane(&lane("w"), mended);
        assert_eq!(bench.grant().len(), 1, "and is not yet proven");
    }
}

#[test]
fn a_refused_endpoint_stops_its_own_lane_until_it_is_edited() {
    let mut bench = Bench::new();
    bench.proven("good", setup(1));
    bench.pacing.set_lane(&lane("bad"), setup(1));
    bench.enqueue("bad", 2);
    let probe = bench.grant();
    bench.finish(probe[0], Lesson::EndpointRefused);
    bench.enqueue("good", 1);
    assert_eq!(bench.grant().len(), 1);
    assert!(matches!(bench.pacing.pause(&lane("bad")), Some(Pause::Endpoint { .. })));
    bench.pacing.set_lane(&lane("bad"), LaneSetup { generation: 2, ..setup(1) });
    assert_eq!(bench.pacing.pause(&lane("bad")), None);
    assert_eq!(bench.grant().len(), 1);
}

#[test]
fn i9_an_accounts_limit_holds_across_its_lanes_and_they_take_turns() {
    let mut bench = Bench::new();
    bench.proven("a", setup(1));
    bench.proven("b", setup(1));
    let a = bench.enqueue("a", 100);
    bench.enqueue("b", 100);
    let granted = bench.grant();
    assert_eq!(granted.len(), 15);
    let of_a = granted.iter().filter(|t| a.contains(t)).count();
    assert!((7..=8).contains(&of_a), "{of_a} of 15");
    bench.finish(granted[0], Lesson::Nothing);
    assert_eq!(bench.grant().len(), 1);
}

#[test]
fn max_in_flight_belongs_to_its_own_webhook() {
    let mut bench = Bench::new();
    bench.proven("narrow", LaneSetup { max_in_flight: 1, ..setup(1) });
    bench.proven("wide", setup(1));
    let narrow = bench.enqueue("narrow", 10);
    bench.enqueue("wide", 20);
    let granted = bench.grant();
    assert_eq!(granted.len(), 15);
    assert_eq!(granted.iter().filter(|t| narrow.contains(t)).count(), 1);
}

#[test]
fn after_a_429_the_account_rests_and_longer_each_time() {
    let mut bench = Bench::new();
    bench.proven("w", setup(1));
    bench.enqueue("w", 3);
    let granted = bench.grant();
    bench.finish(granted[0], Lesson::Throttled { retry_after: None });
    bench.enqueue("w", 1);
    assert!(bench.grant().is_empty());
    let first = bench.pacing.next_change(bench.now).unwrap() - bench.now;
    bench.finish(granted[1], Lesson::Throttled { retry_after: Some(Duration::from_secs(9)) });
    let second = bench.pacing.next_change(bench.now).unwrap() - bench.now;
    assert!(first < second && second == Duration::from_secs(9), "{first:?} {second:?}");
    bench.finish(granted[2], Lesson::Nothing);
    bench.now += second;
    assert_eq!(bench.grant().len(), 1);
}

#[test]
fn a_suspended_webhook_sends_nothing_and_loses_nothing() {
    let mut bench = Bench::new();
    bench.pacing.set_lane(&lane("w"), LaneSetup { suspended: true, ..setup(1) });
    bench.enqueue("w", 2);
    assert!(bench.grant().is_empty());
    bench.pacing.set_lane(&lane("w"), LaneSetup { generation: 2, ..setup(1) });
    assert_eq!(bench.grant().len(), 1);
}

#[test]
fn a_ticket_that_is_given_back_frees_its_place() {
    let mut bench = Bench::new();
    bench.proven("w", LaneSetup { max_in_flight: 1, ..setup(1) });
    let tickets = bench.enqueue("w", 3);
    bench.finish(tickets[1], Lesson::Nothing);
    assert_eq!(bench.grant(), [tickets[0]]);
    bench.finish(tickets[0], Lesson::Nothing);
    assert_eq!(bench.grant(), [tickets[2]]);
}

fn in_namespace(namespace: &str, webhook: &str) -> LaneKey {
    LaneKey { namespace: namespace.into(), webhook: webhook.into() }
}

/// A lane of a namespace whose credential and generation are proven.
fn prove(bench: &mut Bench, key: &LaneKey, setup: LaneSetup) {
    bench.pacing.set_lane(key, setup);
    bench.enqueue_for(key, "c", 1);
    for ticket in bench.grant() {
        bench.finish(ticket, Lesson::Proven);
    }
}

#[test]
fn namespaces_take_turns_whatever_their_number_of_webhooks_and_then_campaigns() {
    let mut bench = Bench::new();
    let many: Vec<LaneKey> = (0..9).map(|i| in_namespace("many", &format!("w{i}"))).collect();
    let one = in_namespace("one", "w");
    for key in many.iter().chain([&one]) {
        prove(&mut bench, key, setup(1));
    }
    for key in &many {
        bench.enqueue_for(key, "c", 50);
    }
    let first = bench.enqueue_for(&one, "first", 50);
    let second = bench.enqueue_for(&one, "second", 1);
    let granted = bench.grant();
    let of_one = granted.iter().filter(|t| first.contains(t) || second.contains(t)).count();
    assert!((7..=8).contains(&of_one), "{of_one} of 15");
    assert!(granted.contains(&second[0]), "a campaign that came last waits for one turn, not for fifty");
}

#[test]
fn i6_whoever_holds_places_for_long_keeps_no_more_than_its_share() {
    let mut bench = Bench::new();
    let (hanging, quick) = (in_namespace("a", "hangs"), in_namespace("b", "quick"));
    prove(&mut bench, &hanging, setup(1));
    prove(&mut bench, &quick, setup(1));
    let held = bench.enqueue_for(&hanging, "c", 1000);
    bench.enqueue_for(&quick, "c", 1000);
    let mut on_their_way = bench.grant();
    for _ in 0..100 {
        // What hangs never ends; what is quick ends at once.
        let (hung, ended): (Vec<_>, Vec<_>) = on_their_way.into_iter().partition(|t| held.contains(t));
        assert!(ended.len() >= 7, "{} of 15 go on", ended.len());
        bench.finish_all(&ended, Lesson::Proven);
        on_their_way = [hung, bench.grant()].concat();
    }
}

#[test]
fn i6_a_tenant_with_your_account_and_a_wrong_passcode_or_path_neither_pauses_nor_throttles_you() {
    for (lesson, setup_of_tenant) in [
        (Lesson::CredentialRefused, setup(2)),
        (Lesson::EndpointRefused, setup(1)),
        (Lesson::Failed, LaneSetup { max_in_flight: 1, ..setup(1) }),
    ] {
        let mut bench = Bench::new();
        let (tenant, yours) = (in_namespace("tenant", "w"), in_namespace("you", "w"));
        prove(&mut bench, &yours, setup(1));
        bench.pacing.set_lane(&tenant, setup_of_tenant);
        let theirs = bench.enqueue_for(&tenant, "c", 100);
        for _ in 0..50 {
            bench.enqueue_for(&yours, "c", 14);
            let granted = bench.grant();
            let (bad, good): (Vec<_>, Vec<_>) = granted.into_iter().partition(|t| theirs.contains(t));
            assert!(bad.len() <= 1 && good.len() == 14, "{lesson:?}: {} of yours", good.len());
            bench.finish_all(&bad, lesson);
            bench.finish_all(&good, Lesson::Proven);
        }
        assert_eq!(bench.pacing.pause(&yours), None);
        assert!(bench.pacing.pause(&tenant).is_some());
    }
}

#[test]
fn a_broken_endpoint_is_asked_by_one_request_after_each_rest() {
    let mut bench = Bench::new();
    bench.proven("w", setup(1));
    bench.enqueue("w", 40);
    let granted = bench.grant();
    assert_eq!(granted.len(), 15);
    let changed: Vec<bool> =
        granted.iter().map(|t| bench.pacing.finish(*t, Lesson::Failed, "HTTP 503", bench.now)).collect();
    assert_eq!(changed.iter().filter(|changed| **changed).count(), 1, "said once");
    assert!(matches!(bench.pacing.pause(&lane("w")), Some(Pause::Failing { message }) if message == "HTTP 503"));
    assert!(bench.grant().is_empty());
    for _ in 0..3 {
        bench.now = bench.pacing.next_change(bench.now).unwrap();
        let probe = bench.grant();
        assert_eq!(probe.len(), 1);
        bench.finish(probe[0], Lesson::Failed);
        assert!(bench.grant().is_empty());
    }
    bench.now = bench.pacing.next_change(bench.now).unwrap();
    let probe = bench.grant();
    assert!(bench.pacing.finish(probe[0], Lesson::Proven, "", bench.now), "it goes on");
    assert_eq!(bench.grant().len(), 15);
    assert_eq!(bench.pacing.pause(&lane("w")), None);
}

#[test]
fn after_a_429_fewer_are_sent_at_once_and_more_again_with_each_success() {
    let mut bench = Bench::new();
    bench.proven("w", setup(1));
    bench.enqueue("w", 1000);
    let granted = bench.grant();
    assert_eq!(granted.len(), 15);
    bench.finish_all(&granted, Lesson::Throttled { retry_after: None });
    let mut at_once = Vec::new();
    for _ in 0..12 {
        bench.now += Duration::from_secs(60);
        let granted = bench.grant();
        at_once.push(granted.len());
        bench.finish_all(&granted, Lesson::Proven);
    }
    assert_eq!(at_once, [7, 8, 9, 10, 11, 12, 13, 14, 15, 15, 15, 15]);
}

#[test]
fn a_hundred_thousand_who_leave_do_not_hold_the_others_up() {
    let mut bench = Bench::new();
    bench.pacing.set_lane(&lane("w"), LaneSetup { suspended: true, ..setup(1) });
    let tickets = bench.enqueue("w", 100_000);
    let since = Instant::now();
    bench.finish_all(&tickets, Lesson::Nothing);
    // Searching for each took a minute.
    assert!(since.elapsed().as_secs() < 5, "{:?}", since.elapsed());
    assert!(bench.pacing.lanes[&lane("w")].waiting.is_empty());
}

#[test]
fn what_a_request_of_an_earlier_generation_taught_is_not_held_against_an_edited_webhook() {
    for edited in [LaneSetup { generation: 2, ..setup(1) }, LaneSetup { uid: "another".into(), ..setup(1) }] {
        let mut bench = Bench::new();
        bench.proven("w", setup(1));
        let before = bench.enqueue("w", 1);
        assert_eq!(bench.grant(), before);
        bench.pacing.set_lane(&lane("w"), edited);
        assert!(!bench.pacing.finish(before[0], Lesson::EndpointRefused, "HTTP 404", bench.now));
        assert_eq!(bench.pacing.pause(&lane("w")), None);
        bench.enqueue("w", 2);
        assert_eq!(bench.grant().len(), 1, "it is to be proven itself");
    }
}

#[test]
fn a_webhook_that_changes_its_account_leaves_the_old_ones_limit() {
    let mut bench = Bench::new();
    bench.proven("w", setup(1));
    let other = AccountKey::CleverTap { host: "h".into(), account_id: "other".into() };
    bench.proven("w", LaneSetup { account: other, account_limit: 3, max_in_flight: 100, ..setup(1) });
    bench.enqueue("w", 50);
    assert_eq!(bench.grant().len(), 3);
}

#[test]
fn what_time_alone_does_not_change_is_not_waited_for() {
    let mut bench = Bench::new();
    bench.proven("w", LaneSetup { max_in_flight: 2, ..setup(1) });
    bench.enqueue("w", 3);
    let granted = bench.grant();
    assert_eq!(bench.pacing.next_change(bench.now), None, "both places are taken");
    bench.finish(granted[0], Lesson::Throttled { retry_after: None });
    let until = bench.pacing.next_change(bench.now).unwrap();
    assert_eq!(bench.pacing.next_change(until), None);
}

/// What is remembered of turns stays small: whoever waits, or had a turn among the last 4096, is known.
#[test]
fn i7_turns_are_remembered_for_as_long_as_they_may_matter() {
    let share = |campaign: &str| ("ns".to_owned(), Some(campaign.to_owned()));
    let load = |in_flight, served| Load { in_flight, served };
    let mut account = Account::new(15);
    account.turn = 5000;
    account.shares = [("waits", load(1, 1)), ("recent", load(0, 905)), ("old", load(0, 904)), ("ends", load(1, 1))]
        .map(|(campaign, load)| (share(campaign), load))
        .into();
    let sender = Sender { campaign: "ends".into(), coupon: "x".into() };
    account.end(&Granted { lane: lane("w"), setup: setup(1), sender, probe: false });
    let mut known: Vec<String> = account.shares.keys().filter_map(|(_, campaign)| campaign.clone()).collect();
    known.sort();
    assert_eq!(known, ["recent", "waits"]);
}
