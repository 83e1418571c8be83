use std::future::poll_fn;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::{
    Blob, Codec,
    proto::{Frame, HEADER, Header, Kind},
    recycle::CHUNK,
};

fn boxed(stream: impl Transport) -> Box<dyn Transport> {
    Box::new(stream)
}

fn frame(id: u64, body: &[u8]) -> Vec<u8> {
    let header = Header { kind: Kind::Request, compression: 0, codec: 0, id };
    [&header.to_bytes((HEADER + body.len()) as u32)[..], body].concat()
}

fn body(id: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at as u64 * 31 + id * 7) as u8).collect()
}

/// Reads until the end, and checks each frame; every third one is held until then, so that the others are used again.
async fn check_all<T: Socket>(io: &mut T, sizes: &[usize]) {
    let mut reader = Inbound::new(1 << 20);
    let (mut count, mut held) = (0, Vec::new());
    loop {
        while let Some(frame) = reader.next_frame().unwrap() {
            count += 1;
            assert_eq!(frame.header.id, count);
            assert_eq!(frame.body[..], body(count, sizes[count as usize - 1]));
            if count % 3 == 0 {
                held.push(frame);
            }
        }
        reader.park();
        if poll_fn(|cx| poll_fill(&mut reader, io, cx)).await.unwrap() == 0 {
            break;
        }
    }
    assert_eq!(count, sizes.len() as u64);
    for Frame { header, body: held } in held {
        assert_eq!(held[..], body(header.id, sizes[header.id as usize - 1]), "a held frame was overwritten");
    }
}

/// Writes so many bytes at once.
async fn write_all(io: impl AsyncWrite, sizes: &[usize], at_once: usize) {
    let ids = 1..;
    let bytes: Vec<u8> = ids.zip(sizes).flat_map(|(id, size)| frame(id, &body(id, *size))).collect();
    let mut io = std::pin::pin!(io);
    for piece in bytes.chunks(at_once) {
        io.write_all(piece).await.unwrap();
    }
    io.shutdown().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn frames_arrive_whole_however_they_are_cut(
        sizes in prop::collection::vec(prop_oneof![0usize..100, 0usize..200_000, 60_000usize..70_000], 1..30),
        at_once in prop_oneof![1000usize..100_000, Just(usize::MAX)],
        pipe in 1usize..100_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(pipe);
            let mut far = boxed(far);
            tokio::join!(check_all(&mut far, &sizes), write_all(near, &sizes, at_once));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut far, _) = listener.accept().await.unwrap();
            tokio::join!(check_all(&mut far, &sizes), write_all(near, &sizes, at_once));
        });
    }
}

#[tokio::test]
async fn a_claimed_length_reserves_nothing() {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let mut far = boxed(far);
    let header = Header { kind: Kind::Request, compression: 0, codec: 0, id: 1 };
    near.write_all(&header.to_bytes(60 << 20)).await.unwrap();
    let mut reader = Inbound::new(64 << 20);
    for _ in 0..3 {
        near.write_all(&[0; 1000]).await.unwrap();
        poll_fn(|cx| poll_fill(&mut reader, &mut far, cx)).await.unwrap();
        assert!(reader.next_frame().unwrap().is_none());
    }
    let reserved = reader.reserved();
    assert!(reserved <= 4 * CHUNK, "{reserved} bytes");
}

/// A frame of 2 KiB is cut from a read buffer of 64 KiB, which nothing that is kept of it may hold.
#[test]
fn a_small_frame_does_not_keep_the_read_buffer_alive() {
    let blob = [1; 2000];
    let bytes = frame(1, &[&[251, 208, 7][..], &blob].concat());
    let mut reader = Inbound::new(1 << 20);
    let filled = reader.fill(|space| match space {
        Space::Append(buffer, _) => {
            buffer.extend_from_slice(&bytes);
            Poll::Ready(Ok::<_, ()>(bytes.len()))
        }
        Space::Fill(..) => Poll::Pending,
    });
    assert_eq!(filled, Poll::Ready(Ok(bytes.len())));
    let body = reader.next_frame().unwrap().unwrap().body;
    let cut = body.as_ptr_range();
    let decoded: Blob = body.decode(&Codec::Bincode).unwrap();
    assert_eq!(decoded[..], blob);
    assert!(!cut.contains(&decoded.as_ptr()), "the blob is a slice of the read buffer");
    let kept = bytes::Bytes::from(body);
    assert_eq!(kept[3..], blob);
    assert!(!cut.contains(&kept.as_ptr()), "the body is a slice of the read buffer");
}
