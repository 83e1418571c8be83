//! What the parts of a call cost: `cargo bench -p ms-rpc --features internals --bench parts`.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use ms_rpc::{
    Balancer, Codec, Compression,
    internals::{self, Buffer, Plan, Table},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    id: i64,
    name: String,
    price: f64,
    tags: Vec<String>,
}

impl Item {
    fn of(id: i64) -> Self {
        let tags = ["new", "oak", "home"].map(str::to_owned);
        Self { id, name: "walnut armchair.".to_owned(), price: 129.5, tags: tags.into() }
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    frames(&mut criterion);
    codecs(&mut criterion);
    compressions(&mut criterion);
    picks(&mut criterion);
    plans(&mut criterion);
    tables(&mut criterion);
    criterion.final_summary();
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    group.bench_function("header/encode", |b| b.iter(|| internals::header(black_box(7 << 20), black_box(64))));
    let header = internals::header(7 << 20, 64);
    assert_eq!(internals::parse_header(&header), Some((7 << 20, 64)));
    group.bench_function("header/parse", |b| b.iter(|| internals::parse_header(black_box(&header))));

    let mut head = Vec::new();
    assert!(internals::write_head("goods", "find", &mut head));
    assert_eq!(internals::parse_head(&head), Some(("goods", "find", head.len())));
    group.bench_function("request head/parse", |b| b.iter(|| internals::parse_head(black_box(&head))));
    group.bench_function("request head/write", |b| {
        b.iter(|| {
            head.clear();
            internals::write_head(black_box("goods"), black_box("find"), &mut head)
        });
    });
}

fn codecs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for codec in &Codec::ALL {
        let mut buffer = Buffer::default();
        assert!(buffer.encode(codec, &Item::of(7)));
        let body = buffer.to_bytes();
        assert_eq!(internals::decode(codec, &body), Some(Item::of(7)));
        let item = Item::of(7);
        group.bench_function(format!("{codec}/encode item"), |b| {
            b.iter(|| {
                buffer.clear();
                buffer.encode(codec, black_box(&item))
            });
        });
        group.bench_function(format!("{codec}/decode item"), |b| {
            b.iter(|| internals::decode::<Item>(codec, black_box(&body)));
        });
    }
}

/// About 4 KiB of JSON: a list of items.
fn body() -> Vec<u8> {
    let mut buffer = Buffer::default();
    assert!(buffer.encode(&Codec::Json, &(1_000..1_064).map(Item::of).collect::<Vec<_>>()));
    let mut body = buffer.to_bytes().to_vec();
    assert!(body.len() >= 4 << 10);
    body.truncate(4 << 10);
    body
}

fn compressions(criterion: &mut Criterion) {
    let body = body();
    let mut group = criterion.benchmark_group("compress");
    group.throughput(Throughput::Bytes(body.len() as u64));
    for compression in &Compression::ALL {
        // Where nothing is done, there is nothing to measure.
        let Some(compressed) = internals::shrink(compression, &body) else { continue };
        assert_eq!(internals::expand(compression, &compressed).as_ref(), Some(&body));
        group.bench_function(format!("{compression}/shrink 4 KiB of JSON"), |b| {
            b.iter(|| internals::shrink(compression, black_box(&body)));
        });
        group.bench_function(format!("{compression}/expand 4 KiB of JSON"), |b| {
            b.iter(|| internals::expand(compression, black_box(&compressed)));
        });
    }
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for balancer in Balancer::ALL {
        for instances in [1, 10, 10_000] {
            let plan = Plan::new(balancer, instances);
            let pick = plan.pick(&plan.listed());
            group.bench_function(format!("{balancer}/of {instances}"), |b| b.iter(|| black_box(&pick).next()));
        }
    }
}

/// What a change of the list costs, and what a change of the connections does.
fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for balancer in Balancer::ALL {
        for instances in [10, 10_000] {
            let plan = Plan::new(balancer, instances);
            group.bench_function(format!("{balancer}/list of {instances}"), |b| {
                b.iter_with_large_drop(|| plan.listed());
            });
            let listed = plan.listed();
            group.bench_function(format!("{balancer}/change of {instances}"), |b| {
                b.iter_with_large_drop(|| plan.changed(black_box(&listed)));
            });
            group.bench_function(format!("{balancer}/connections of {instances}"), |b| {
                b.iter_with_large_drop(|| plan.pick(black_box(&listed)));
            });
        }
    }
}

fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("in flight");
    let (answer, timeout) = (Bytes::from_static(b"answer"), Duration::from_secs(1));
    for waiting in [0, 63, 1_023] {
        let mut table = Table::with_waiting(waiting, timeout);
        assert!(table.call(&answer));
        group.bench_function(format!("insert, complete, poll beside {waiting}"), |b| b.iter(|| table.call(&answer)));
    }
}
