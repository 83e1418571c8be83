//! Which back end a request reaches, and how it arrives there.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{Shop, Wire, config, get, rule};
use ms_lb::{Choice, KeySource};
use ms_register::Instance;
use ms_rpc::Balancer;
use tokio::time::Instant;

fn round_robin() -> Choice {
    Choice::Balanced(Balancer::RoundRobin.into(), KeySource::None)
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_and_each_back_end_gets_its_turn() {
    let shop = Shop::open(3).await;
    let front = shop.balanced(Balancer::RoundRobin).await;
    let mut client = Wire::connect(front.address).await;
    let mut names = Vec::new();
    for number in 0..6 {
        client
            .send(&format!(
                "POST /buy/%7Eall?n={number}&q=a%20b&q=c HTTP/1.1\r\nHost: shop.example:80\r\nX-One: 1\r\nX-One: 2\r\nCookie: a=b\r\n\
                 Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\nContent-Length: 5\r\n\r\nbody{number}"
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        let json = answer.json();
        assert_eq!(json["line"], format!("POST /buy/%7Eall?n={number}&q=a%20b&q=c HTTP/1.1"));
        assert_eq!(json["body"], format!("body{number}"));
        for (header, value) in [
            ("host", Some("shop.example:80")),
            ("cookie", Some("a=b")),
            ("content-length", Some("5")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-host", Some("shop.example:80")),
            ("x-hop", None),
            ("te", None),
            ("connection", None),
        ] {
            assert_eq!(answer.seen(header).as_deref(), value, "{header}");
        }
        assert!(answer.seen("via").unwrap().starts_with("1.1 ms-lb-"));
        let both: Vec<_> = json["headers"].as_array().unwrap().iter().filter(|pair| pair[0] == "x-one").collect();
        assert_eq!((both.len(), &both[0][1], &both[1][1]), (2, &"1".into(), &"2".into()));
        names.push(answer.name());
    }
    assert_eq!(names[..3], names[3..], "in turn");
    names.sort();
    assert_eq!(names, ["a", "a", "b", "b", "c", "c"]);
}

#[tokio::test]
async fn headers_of_one_hop_stop_here_on_the_way_back() {
    let shop = Shop::open(1).await;
    let front = shop.balanced(Balancer::RoundRobin).await;
    let answer = get(front.address, "/hop").await;
    assert_eq!((answer.header("x-mine"), answer.header("keep-alive")), (None, None));
    assert_eq!(answer.header("x-kept"), Some("1"));
}

#[tokio::test]
async fn a_back_end_killed_amid_gets_costs_no_error() {
    let mut shop = Shop::open(3).await;
    let front = shop.balanced(Balancer::RoundRobin).await;
    let mut tasks = tokio::task::JoinSet::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for _ in 0..8 {
        let (address, stopped) = (front.address, stopped.clone());
        tasks.spawn(async move {
            let mut counts = BTreeMap::new();
            let mut client = Wire::connect(address).await;
            while !*stopped.borrow() {
                let answer = client.get("/page").await;
                let name = if answer.status == 200 { answer.name() } else { format!("{answer:?}") };
                *counts.entry(name).or_insert(0) += 1;
            }
            counts
        });
    }
    while get(front.address, "/page").await.name() != "b" {}
    shop.back_ends[1].kill();
    let killed = Instant::now();
    // Until the survivors have answered much more than was under way.
    for _ in 0..600 {
        assert_eq!(get(front.address, "/page").await.status, 200);
    }
    stop.send_replace(true);
    let mut counts = BTreeMap::new();
    for counted in tasks.join_all().await {
        counted.into_iter().for_each(|(name, count)| *counts.entry(name).or_insert(0) += count);
    }
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["a", "b", "c"], "{counts:?} after {:?}", killed.elapsed());
    assert!(counts["a"] > 100 && counts["c"] > 100, "{counts:?}");
}

#[tokio::test]
async fn another_address_of_a_client_hashes_to_another_back_end() {
    let shop = Shop::open(3).await;
    let front = shop.balanced(Balancer::IpHash).await;
    // crc32("127.0.0.1") % 3 and so on, of the list sorted by id.
    for (client, name) in [([127, 0, 0, 1], "c"), ([127, 0, 0, 2], "a"), ([127, 0, 0, 1], "c")] {
        for _ in 0..5 {
            let mut wire = Wire::connect_from(client.into(), front.address).await;
            let answer = wire.get("/page").await;
            assert_eq!((answer.name().as_str(), client), (name, client));
            assert_eq!(answer.seen("x-forwarded-for").unwrap(), std::net::Ipv4Addr::from(client).to_string());
        }
    }
}

#[tokio::test]
async fn a_url_hashes_by_its_crc32() {
    let shop = Shop::open(3).await;
    let front = shop.balanced(Balancer::KeyHash).await;
    // Of Python's zlib.crc32(b"/data/video") % 3 and so on.
    for (url, name) in [("/data/video", "b"), ("/data/user", "a"), ("/5", "b"), ("/3", "c")] {
        assert_eq!(get(front.address, url).await.name(), name, "{url}");
    }
}

#[tokio::test]
async fn of_overlapping_rules_the_first_wins_each_time() {
    let shop = Shop::open(1).await;
    let rules =
        vec![rule("/app", "shop", round_robin()), rule("/", "nobody", round_robin()), rule("x", "shop", round_robin())];
    let front = shop.front(rules, config()).await;
    let mut client = Wire::connect(front.address).await;
    for _ in 0..100 {
        assert_eq!(client.get("/any/app/x").await.name(), "a");
    }
    let answer = client.get("/x").await;
    assert_eq!(answer.status, 503, "the second rule comes before the third");
    assert!(answer.json()["error"].as_str().unwrap().contains("`nobody`"), "{answer:?}");
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let shop = Shop::open(1).await;
    let front = shop.front(vec![rule("^/shop", "shop", round_robin())], config()).await;
    let mut client = Wire::connect(front.address).await;
    let answer = client.get("/other").await;
    assert_eq!((answer.status, &answer.json()["error"]), (404, &"no rule matches /other".into()));
    assert_eq!(client.get("/shop").await.status, 200);
    client.send("POST /shop HTTP/1.1\r\nHost: h\r\nVia: 1.1 other\r\nContent-Length: 0\r\n\r\n").await;
    let hops = client.answer().await.seen("via").unwrap();
    assert_eq!(hops, "1.1 other", "each hop adds one");
    client.send("CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 405);
}

#[tokio::test]
async fn the_master_alone_answers_where_a_rule_asks_for_it() {
    let shop = Shop::open(3).await;
    let service = "shop".parse().unwrap();
    let master = Instance::new("127.0.0.1", shop.back_ends[1].port()).with_id("b");
    let front = shop.front(vec![rule(".*", "shop", Choice::Master)], config()).await;
    assert_eq!(get(front.address, "/page").await.status, 503, "nobody leads");
    let election = shop.registry.election().unwrap();
    let leads = election.campaign(&service, master, Duration::from_secs(5)).await.unwrap();
    let mut watch = election.observe(&service);
    watch.wait_for(|known| known.master().is_some()).await.unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while get(front.address, "/page").await.status == 503 && Instant::now() < end {}
    for _ in 0..5 {
        assert_eq!(get(front.address, "/page").await.name(), "b");
    }
    leads.resign(Duration::from_secs(3)).await.unwrap();
}
