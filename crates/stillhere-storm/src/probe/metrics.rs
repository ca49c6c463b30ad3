//! The target's metrics, in Prometheus' text form.

use crate::sample::TargetSecond;

/// A page of metrics that is longer isn't one.
const PAGE_BYTES_MAX: u64 = 4 << 20;
/// What a session may be; a page may say more, and each would be in every sample.
const STATUSES: [&str; 3] = ["alive", "leave", "close"];
/// Close codes of a page: there are some thirty.
const CODES_MAX: usize = 64;

/// What the page at that address says; nothing if it can't be had in time.
pub(crate) fn fetch(agent: &ureq::Agent, url: &str) -> TargetSecond {
    let Ok(mut answer) = agent.get(url).call() else { return TargetSecond::default() };
    match answer.body_mut().with_config().limit(PAGE_BYTES_MAX).read_to_string() {
        Ok(page) => read(&page),
        Err(_) => TargetSecond::default(),
    }
}

/// What a page says of what we look for. Everybody's `process_…` are understood, of any server.
fn read(page: &str) -> TargetSecond {
    let mut seen = TargetSecond::default();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let whole = value.max(0.0) as u64;
        match name {
            "process_resident_memory_bytes" => seen.rss = Some(whole),
            "process_cpu_seconds_total" => seen.cpu_ms = Some((value * 1000.0).max(0.0) as u64),
            "process_open_fds" => seen.files = Some(whole),
            "process_threads" => seen.threads = Some(whole),
            "stillhere_links" => seen.links = Some(seen.links.unwrap_or(0).saturating_add(whole)),
            "stillhere_false_leaves_total" => seen.false_leaves = Some(whole),
            "stillhere_sessions" => {
                if let Some(status) = label(labels, "status").filter(|status| STATUSES.contains(status)) {
                    seen.sessions.insert(status.to_owned(), whole);
                }
            }
            "stillhere_closes_total" if whole > 0 => {
                let code = label(labels, "code").and_then(|code| code.parse().ok());
                if let Some(code) = code.filter(|_| seen.closes.len() < CODES_MAX) {
                    seen.closes.insert(code, whole);
                }
            }
            _ => {}
        }
    }
    seen
}

/// The value of a label; those that are looked for contain no quotes.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.trim_end_matches('}').trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_for_what_is_known_and_the_rest_left_aside() {
        let page = "# HELP process_open_fds files\nprocess_open_fds 12\nprocess_resident_memory_bytes 1.5e6\n\
                    process_cpu_seconds_total 0.25\nstillhere_links{transport=\"tcp\",mode=\"v1\"} 3\n\
                    stillhere_links{transport=\"tls\",mode=\"v1\"} 4\nstillhere_sessions{status=\"leave\"} 5\n\
                    stillhere_closes_total{code=\"4002\"} 9\nstillhere_closes_total{code=\"4003\"} 0\n\
                    stillhere_false_leaves_total 1\nother{x=\"y\"} 1\nnonsense\nprocess_threads many\n";
        let seen = read(page);
        assert_eq!((seen.files, seen.rss, seen.cpu_ms, seen.threads), (Some(12), Some(1_500_000), Some(250), None));
        assert_eq!((seen.links, seen.false_leaves), (Some(7), Some(1)));
        let hostile = "stillhere_links{a=\"1\"} 1e300\nstillhere_links{a=\"2\"} 1e300\n".to_owned();
        let many = |line: fn(u32) -> String| (1000..2000).map(line).collect::<String>();
        let hostile = hostile
            + &many(|nth| format!("stillhere_sessions{{status=\"s{nth}\"}} 1\n"))
            + &many(|nth| format!("stillhere_closes_total{{code=\"{nth}\"}} 1\n"));
        let bounded = read(&hostile);
        assert_eq!((bounded.links, bounded.sessions.len(), bounded.closes.len()), (Some(u64::MAX), 0, CODES_MAX));
        assert_eq!((seen.sessions["leave"], seen.closes.len(), seen.closes[&4002]), (5, 1, 9));
    }
}
