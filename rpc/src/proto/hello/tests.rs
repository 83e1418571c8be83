use proptest::prelude::*;

use super::*;

fn server() -> ServerHello {
    ServerHello {
        instance: "127.0.0.1:9112".to_owned(),
        incarnation: 7,
        scopes: vec!["etcd/ms-rpc".to_owned(), "nacos/public/DEFAULT_GROUP".to_owned()],
        max_frame: 4 << 20,
        max_in_flight: 1024,
        codecs: vec![0, 1],
        compressions: vec![1, 2],
    }
}

#[test]
fn both_sides_round_trip() {
    assert_eq!(ServerHello::parse(&server().to_frame()[HEADER..]), Ok(server()));
    let client =
        ClientHello { name: "order-center".to_owned(), credentials: vec![1, 2], compressions: vec![1], max_frame: 7 };
    assert_eq!(ClientHello::parse(&client.to_frame()[HEADER..]), Ok(client));
}

#[test]
fn unknown_tags_are_skipped_and_cuts_are_errors() {
    let mut frame = server().to_frame();
    let end = frame.len();
    frame.extend_from_slice(&[200, 0, 2, 1, 1]);
    assert_eq!(ServerHello::parse(&frame[HEADER..]), Ok(server()));
    for cut in [end + 1, end + 2, end + 4] {
        assert!(ServerHello::parse(&frame[HEADER..cut]).is_err());
    }
}

prop_compose! {
    fn any_server()(
        instance in ".{0,40}",
        incarnation: u64,
        scopes in prop::collection::vec(".{0,20}", 0..5),
        (max_frame, max_in_flight) in (1u32.., 1u32..),
        (codecs, compressions) in any::<(Vec<u8>, Vec<u8>)>(),
    ) -> ServerHello {
        ServerHello { instance, incarnation, scopes, max_frame, max_in_flight, codecs, compressions }
    }
}

prop_compose! {
    fn any_client()(name in ".{0,40}", credentials: Vec<u8>, compressions: Vec<u8>, max_frame: u32) -> ClientHello {
        ClientHello { name, credentials, compressions, max_frame }
    }
}

proptest! {
    #[test]
    fn any_hello_round_trips(server in any_server(), client in any_client()) {
        prop_assert_eq!(ServerHello::parse(&server.to_frame()[HEADER..]), Ok(server));
        prop_assert_eq!(ClientHello::parse(&client.to_frame()[HEADER..]), Ok(client));
    }

    #[test]
    fn any_bytes_end_in_a_hello_or_an_error(body: Vec<u8>) {
        let _ = ServerHello::parse(&body);
        let _ = ClientHello::parse(&body);
    }
}
