//! The way of one Watchdog through `alertmanager.yml`.

use super::prometheus::Turn;
use super::receiver::{self, Receiver};
use super::route::Taken;
use super::{Labels, Watchdog, inhibit};
use crate::config::yaml::{Node, Position};
use crate::config::{Problem, Problems};
use crate::deadman::timing::{PEER_TIMEOUT, RESEND_DELAY, RouteTiming, Shown};

const SNIPPET: &str =
    "put the route that `watchpost snippet alertmanager` prints before all others";

/// Follows the alert with these labels; its timing when it arrives here.
pub(super) fn follow(
    root: &Node,
    watchdog: &Watchdog<'_>,
    labels: &Labels,
    turn: Turn,
    problems: &mut Problems,
) -> Option<RouteTiming> {
    let Some(tree) = root.get("route") else {
        problems.push(Problem::error("there is no route").at(root.at()).hint(SNIPPET));
        return None;
    };
    let top = Taken::root(tree, problems);
    let taken = top.clone().walk(labels, problems);
    let mut timing: Option<RouteTiming> = None;
    let mut arrives = false;
    for route in &taken {
        let Some(receiver) = receiver_of(root, route, watchdog, problems) else { continue };
        if receiver.ours.is_empty() && receiver.hidden.is_empty() {
            continue;
        }
        arrives = true;
        let found = check_route(root, route, &receiver, watchdog, turn, problems);
        // Over two ways, the faster one counts.
        timing = [timing, Some(found)].into_iter().flatten().min_by_key(RouteTiming::period);
    }
    inhibit::check(root, watchdog, labels, problems);
    if arrives {
        check_others(root, &taken, watchdog, problems);
    } else {
        lost(root, &top, &taken, watchdog, labels, problems);
    }
    timing
}

fn receiver_of<'a>(
    root: &'a Node,
    route: &Taken<'a>,
    watchdog: &Watchdog<'_>,
    problems: &mut Problems,
) -> Option<Receiver<'a>> {
    let name = route.receiver_name();
    let Some(node) = receiver::find(root, name) else {
        let at = route.receiver.unwrap_or(route.node).at();
        problems.push(
            Problem::error(format!("there is no receiver {name:?}: Alertmanager refuses the file"))
                .at(at)
                .hint("name one of receivers:"),
        );
        return None;
    };
    Some(Receiver::read(node, watchdog.name()))
}

/// The alert does not come here: where it goes instead, and whether a route was meant to take it.
fn lost(
    root: &Node,
    top: &Taken<'_>,
    taken: &[Taken<'_>],
    watchdog: &Watchdog<'_>,
    labels: &Labels,
    problems: &mut Problems,
) {
    let Some(first) = taken.first() else { return };
    let name = first.receiver_name();
    let Some(node) = receiver::find(root, name) else { return };
    let receiver = Receiver::read(node, watchdog.name());
    let alert = &watchdog.rules.alertname;
    let door = watchdog.name().unwrap_or("NAME");
    let what = if receiver.is_empty() {
        format!("{alert} is routed to nowhere: receiver {name:?} tells nobody")
    } else {
        format!(
            "{alert} goes to receiver {name:?} ({}), which has no webhook to watchpost's /alertmanager/{door}",
            receiver.others.join(", ")
        )
    };
    let mut problem = Problem::error(what).at(first.receiver.unwrap_or(first.node).at());
    let leads_here = |route: &Taken<'_>| {
        let node = receiver::find(root, route.receiver_name());
        node.is_some_and(|node| !Receiver::read(node, watchdog.name()).ours.is_empty())
    };
    match top.fitting(labels).iter().find(|route| leads_here(route)) {
        Some(meant) => {
            problem = problem.related("this route comes too late", meant.node.at()).hint(
                "move it before the route that takes the alert, or give that one continue: true",
            );
        }
        None => problem = problem.hint(SNIPPET),
    }
    problems.push(problem);
}

/// An alert that always fires must reach nobody else.
fn check_others(
    root: &Node,
    taken: &[Taken<'_>],
    watchdog: &Watchdog<'_>,
    problems: &mut Problems,
) {
    for route in taken {
        let Some(node) = receiver::find(root, route.receiver_name()) else { continue };
        let receiver = Receiver::read(node, watchdog.name());
        if receiver.others.is_empty() {
            continue;
        }
        problems.push(
            Problem::warning(format!(
                "{} also goes to {} of receiver {:?}, again and again, as it always fires",
                watchdog.rules.alertname,
                receiver.others.join(", "),
                route.receiver_name()
            ))
            .at(route.receiver.unwrap_or(route.node).at())
            .hint("give the Watchdog a receiver with nothing but the webhook to watchpost"),
        );
    }
}

fn check_route(
    root: &Node,
    route: &Taken<'_>,
    receiver: &Receiver<'_>,
    watchdog: &Watchdog<'_>,
    turn: Turn,
    problems: &mut Problems,
) -> RouteTiming {
    for webhook in &receiver.hidden {
        problems.push(
            Problem::warning(
                "the URL is in a file that cannot be read here: it is taken to lead to watchpost",
            )
            .at(webhook.find("url_file").at()),
        );
    }
    for webhook in &receiver.ours {
        receiver::check(root, webhook, watchdog, problems);
        check_truncation(webhook, route, watchdog, problems);
    }
    check_mutes(route, watchdog, problems);
    check_company(route, watchdog, problems);
    let told = watchdog.rules.route.as_ref();
    let timing = RouteTiming {
        scrape_interval: turn.scrape,
        evaluation_interval: turn.evaluation,
        resend_delay: told.map_or(RESEND_DELAY, |route| route.resend_delay.get()),
        group_wait: route.group_wait.value,
        group_interval: route.group_interval.value,
        repeat_interval: route.repeat_interval.value,
        peers: watchdog.peers(),
        peer_timeout: told.map_or(PEER_TIMEOUT, |route| route.peer_timeout.get()),
    };
    check_timing(route, &timing, watchdog, problems);
    timing
}

fn check_mutes(route: &Taken<'_>, watchdog: &Watchdog<'_>, problems: &mut Problems) {
    for (node, word) in
        [(route.mute, "while one of these holds"), (route.active, "outside of these")]
    {
        let Some(node) = node else { continue };
        let names: Vec<&str> = node.items().iter().filter_map(Node::text).collect();
        problems.push(
            Problem::error(format!(
                "{} is muted {word}: {}. Each time, the silence is a page",
                watchdog.rules.alertname,
                names.join(", ")
            ))
            .at(node.at())
            .hint("no time intervals on the Watchdog's route; pause the deadman instead, with an end and a reason"),
        );
    }
}

/// Other alerts in the same group change when it is sent, and can push the Watchdog out of a body.
fn check_company(route: &Taken<'_>, watchdog: &Watchdog<'_>, problems: &mut Problems) {
    let alert = &watchdog.rules.alertname;
    if route.matchers.iter().any(|matcher| matcher.pins("alertname", alert)) {
        return;
    }
    problems.push(
        Problem::warning(format!(
            "this route takes other alerts than {alert} too, and they share its timing"
        ))
        .at(route.node.at())
        .hint(format!("matchers: ['alertname=\"{alert}\"'], first of all routes")),
    );
}

fn check_truncation(
    webhook: &Node,
    route: &Taken<'_>,
    watchdog: &Watchdog<'_>,
    problems: &mut Problems,
) {
    let Some(node) = webhook.get("max_alerts") else { return };
    let most: usize = node.text().and_then(|text| text.parse().ok()).unwrap_or(0);
    let sources = watchdog.rules.sources.len();
    let is_split =
        watchdog.rules.source_label.as_ref().is_none_or(|label| route.is_grouped_by(label));
    if most == 0 || most >= sources || is_split {
        return;
    }
    problems.push(
        Problem::error(format!("of {sources} sources in one group only {most} are sent"))
            .at(node.at())
            .hint("drop max_alerts, or group_by: ['...']"),
    );
}

fn check_timing(
    route: &Taken<'_>,
    timing: &RouteTiming,
    watchdog: &Watchdog<'_>,
    problems: &mut Problems,
) {
    let place = |node: Option<&Node>| -> Position { node.unwrap_or(route.node).at().clone() };
    let (group, repeat) = (route.group_interval.node, route.repeat_interval.node);
    // Of the two, the one that is written.
    let (group, repeat) = (place(group.or(repeat)), place(repeat.or(group)));
    let (Some(period), Some(least)) = (timing.period(), timing.least_max_age()) else {
        problems.push(
            Problem::error("Alertmanager refuses a group_interval of 0s")
                .at(&group)
                .hint("group_interval: 1m"),
        );
        return;
    };
    let max_age = watchdog.rules.max_age.get();
    if max_age < least {
        let (what, hint) = timing.too_short(max_age, period, least);
        let name = watchdog.name().map_or_else(
            || "the default max_age".to_owned(),
            |name| format!("max_age of watchdog {name:?}"),
        );
        let at = if period > timing.group_interval { &repeat } else { &group };
        problems.push(Problem::error(format!("{name}: {what}")).at(at).hint(hint));
    } else if period > max_age / 2 {
        problems.push(
            Problem::warning(format!(
                "a beat comes only every {}: one lost beat uses up most of max_age {}",
                Shown(period),
                Shown(max_age)
            ))
            .at(&repeat)
            .hint("group_interval 1m and repeat_interval 50s repeat every minute"),
        );
    }
    if let Some((what, hint)) = timing.doubling() {
        problems.push(Problem::warning(what).at(&repeat).hint(hint));
    }
    if timing.group_wait > max_age / 2 {
        problems.push(
            Problem::warning(format!(
                "after a restart of Alertmanager the first beat waits {}",
                Shown(timing.group_wait)
            ))
            .at(&place(route.group_wait.node))
            .hint("group_wait: 0s"),
        );
    }
}
