use std::fs;

/// Returns true if the process has a TCP socket of 127.0.0.1 with this local port (Linux: `/proc`).
pub(super) fn has(process: u32, port: u16) -> bool {
    let local = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let sockets: Vec<_> = rows
        .filter(|row| row.get(1) == Some(&local.as_str()))
        .filter_map(|row| Some(format!("socket:[{}]", row.get(9)?)))
        .collect();
    let open = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    open.filter_map(|file| fs::read_link(file.path()).ok())
        .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}
