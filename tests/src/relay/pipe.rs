use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::sleep,
};

use super::Fault;

/// Passes bytes in both directions until both have ended, or a fault ends them.
pub(super) async fn run(
    mut client: TcpStream,
    mut server: TcpStream,
    faults: watch::Receiver<Fault>,
) -> io::Result<()> {
    let outcome = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = pass(Way::There, from_client, to_server, faults.clone());
        let back = pass(Way::Back, from_server, to_client, faults);
        tokio::try_join!(there, back)
    };
    if let Err(Cut::Reset) = outcome {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// Towards the server, or from it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// Why no more bytes pass.
enum Cut {
    Closed,
    Reset,
}

impl From<io::Error> for Cut {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

async fn pass(
    way: Way,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut faults: watch::Receiver<Fault>,
) -> Result<(), Cut> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let fault = open(way, &mut faults).await?;
        let room = if matches!(fault, Fault::Trickle(_)) { 1 } else { buffer.len() };
        let length = tokio::select! {
            changed = faults.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Err(Cut::Closed),
            },
            length = from.read(&mut buffer[..room]) => length?,
        };
        match fault {
            Fault::Delay(delay) => sleep(delay).await,
            Fault::Trickle(rate) => sleep(Duration::from_secs(1) / rate.max(1)).await,
            _ => {}
        }
        // The fault may have come while the bytes were on their way.
        open(way, &mut faults).await?;
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Waits until bytes may pass, and says with which fault.
async fn open(way: Way, faults: &mut watch::Receiver<Fault>) -> Result<Fault, Cut> {
    loop {
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::Drop => return Err(Cut::Closed),
            Fault::Reset => return Err(Cut::Reset),
            Fault::BlackHole => faults.changed().await.map_err(|_| Cut::Closed)?,
            Fault::Mute if way == Way::Back => faults.changed().await.map_err(|_| Cut::Closed)?,
            fault => return Ok(fault),
        }
    }
}
