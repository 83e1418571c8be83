//! Where figures come from: versions, machine, command, date.

use std::{
    env, fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{implementations::Implementation, peer::Failure};

const LOCK: &str = include_str!("../../Cargo.lock");

/// Command, date and machine, as a list in Markdown.
pub(crate) fn describe() -> Result<String, Failure> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name.trim());
    let count = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let compiler = Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let arguments: Vec<_> = env::args().skip(1).collect();
    Ok(format!(
        "- Command: `cargo run -p bench --release -- {}`\n- Date: {}\n- Machine: {count} x {}, Linux {}, {}\n",
        arguments.join(" "),
        date()?,
        model.unwrap_or("unknown CPU"),
        kernel.trim(),
        String::from_utf8_lossy(&compiler).trim(),
    ))
}

/// What was measured, as one more entry of the list.
pub(crate) fn versions(implementations: &[Implementation]) -> String {
    let versions: Vec<_> =
        implementations.iter().map(|it| format!("{} ({} {})", it.name, it.package, version(it.package))).collect();
    format!("- Implementations: {}; tokio {}\n", versions.join(", "), version("tokio"))
}

/// The versions of these packages, as one more entry of the list.
pub(crate) fn clients(packages: &[&str]) -> String {
    let versions: Vec<_> = packages.iter().map(|package| format!("{package} {}", version(package))).collect();
    format!("- Clients: {}; tokio {}\n", versions.join(", "), version("tokio"))
}

/// The version of a package that this binary was built with.
fn version(package: &str) -> &'static str {
    let name = format!("name = \"{package}\"");
    let after = LOCK.lines().skip_while(|line| *line != name).nth(1);
    after.and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap_or("unknown")
}

/// Today, in UTC.
fn date() -> Result<String, Failure> {
    let days = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 86_400;
    let (year, month, day) = civil(days);
    Ok(format!("{year}-{month:02}-{day:02}"))
}

/// The Gregorian date of a day since 1970, counted in 400-year eras that begin on a first of March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }

    #[test]
    fn versions_come_from_the_lock() {
        assert!(version("tarpc").starts_with("0."));
        assert_eq!(version("no-such-package"), "unknown");
    }
}
