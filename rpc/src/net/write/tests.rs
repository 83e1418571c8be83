use std::future::poll_fn;

use tokio::io::AsyncReadExt;

use super::{super::Transport, *};

#[tokio::test]
async fn what_is_written_is_forgotten_though_a_little_always_waits() {
    let (near, mut far) = tokio::io::duplex(8 << 10);
    let mut near: Box<dyn Transport> = Box::new(near);
    let mut writer = Writer::default();
    let (mut sent, mut read, mut most) = (0u32, 0u32, 0);
    while sent < 4 << 20 {
        for _ in 0..1000 {
            writer.buffer().data().extend_from_slice(&sent.to_be_bytes());
            sent += 4;
        }
        writer.buffer().hand_off(vec![7; 1000].into());
        let blocked = poll_fn(|cx| Poll::Ready(writer.poll_write(&mut near, cx).is_pending())).await;
        most = most.max(writer.current.len());
        while blocked && writer.waiting() > 6000 {
            for _ in 0..1000 {
                assert_eq!(far.read_u32().await.unwrap(), read);
                read += 4;
            }
            far.read_exact(&mut [0; 1000]).await.unwrap();
            poll_fn(|cx| Poll::Ready(writer.poll_write(&mut near, cx).is_pending())).await;
        }
    }
    assert!(writer.waiting() > 0);
    assert!(most < FORGET + (64 << 10), "{most} bytes were held");
}

#[tokio::test]
async fn segments_wait_though_no_copied_byte_does() {
    let (near, mut far) = tokio::io::duplex(16);
    let mut near: Box<dyn Transport> = Box::new(near);
    let mut writer = Writer::default();
    writer.buffer().data().extend_from_slice(&vec![7; 1 << 20]);
    writer.buffer().seal();
    writer.buffer().data().extend_from_slice(b"end");
    assert_eq!(writer.waiting(), (1 << 20) + 3);
    let write = async {
        poll_fn(|cx| writer.poll_write(&mut near, cx)).await.unwrap();
        drop(near);
    };
    let mut read = Vec::new();
    let ((), all) = tokio::join!(write, far.read_to_end(&mut read));
    assert_eq!(all.unwrap(), (1 << 20) + 3);
    assert!(read.ends_with(&[7, b'e', b'n', b'd']));
}
