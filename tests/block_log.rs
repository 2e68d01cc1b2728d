//! What nodes leave in their block logs, as `alpenglow blocks` shows it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use alpenglow_control::block_log::decode_block;
use alpenglow_control::message::decode_certificate;
use serde_json::Value;

fn alpenglow(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_alpenglow")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn blocks(action: &[&str], data: &Path) -> Output {
    alpenglow(&[&["blocks"], action, &["--data", data.to_str().unwrap()]].concat())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn verify(data: &Path, genesis: &Path) -> (Option<i32>, Value) {
    let output = blocks(&["verify", "--output", "json", "--genesis", genesis.to_str().unwrap()], data);
    (output.status.code(), json(&output))
}

fn bytes(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The record of an exported block.
fn record(exported: &Value) -> Vec<u8> {
    let mut record = Vec::new();
    for (slot, hash) in [("slot", "hash"), ("parent_slot", "parent_hash")] {
        record.extend(exported[slot].as_u64().unwrap().to_le_bytes());
        record.extend(bytes(&exported[hash]));
    }
    let slices = exported["slices"].as_array().unwrap();
    record.extend((slices.len() as u16).to_le_bytes());
    for slice in slices {
        record.extend(bytes(&slice["root"]));
        record.extend(slice["leader_stamp_ns"].as_u64().unwrap().to_le_bytes());
        record.extend((bytes(&slice["payload"]).len() as u32).to_le_bytes());
    }
    slices.iter().for_each(|slice| record.extend(bytes(&slice["payload"])));
    record
}

#[test]
fn every_node_of_a_cluster_leaves_a_log_that_verifies_until_a_byte_of_it_is_spoilt() {
    const SLOTS: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = alpenglow(&[
        "cluster",
        "--nodes",
        "5",
        "--slots",
        &SLOTS.to_string(),
        "--tx-rate",
        "200",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(run.status.success(), "{run:?}");
    let genesis = out.join("genesis.json");
    let data: Vec<PathBuf> = (0..5).map(|node| out.join(format!("node-{node}/data"))).collect();
    for data in &data {
        let (code, found) = verify(data, &genesis);
        assert_eq!((code, found["corrupt"].as_array().map(Vec::len)), (Some(0), Some(0)), "{found:#}");
        assert!(found["final_blocks"].as_u64() >= Some(SLOTS / 2) && found["missing"].as_array().unwrap().is_empty());
        assert!(found["certificates"].as_u64() >= Some(1) && found["signatures_checked"] == true, "{found:#}");
        assert!(found["incomplete_at"].is_null(), "it was stopped cleanly: {found:#}");
    }

    let list = json(&blocks(&["list", "--output", "json"], &data[0]));
    let listed = list["blocks"].as_array().unwrap();
    let exported = blocks(&["export"], &data[0]);
    let lines = String::from_utf8(exported.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), listed.iter().filter(|block| block["finality"] != "not-final").count());
    for exported in &lines {
        let block = decode_block(&record(exported)).unwrap();
        assert_eq!(block.id.hash.0.to_vec(), bytes(&exported["hash"]));
        for certificate in exported["certificates"].as_array().unwrap() {
            let certificate = decode_certificate(&bytes(certificate), 5).unwrap().0;
            assert_eq!(certificate.statement.slot(), block.id.slot);
        }
    }
    let slot = lines[1]["slot"].to_string();
    let shown = json(&blocks(&["show", &slot, "--output", "json"], &data[0]));
    assert_eq!((&shown[0]["hash"], &shown[0]["parent_hash"]), (&lines[1]["hash"], &lines[0]["hash"]));
    assert_eq!(blocks(&["show", "99999"], &data[0]).status.code(), Some(1));
    assert_eq!(blocks(&["list", "--from", "2", "--through", "1"], &data[0]).status.code(), Some(2));
    assert_eq!(alpenglow(&["blocks", "list"]).status.code(), Some(2));

    let segment = data[0].join("blocks/00000001.segment");
    let whole = fs::read(&segment).unwrap();
    for at in [60, whole.len() / 2, whole.len() / 3] {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 1;
        fs::write(&segment, spoilt).unwrap();
        let (code, found) = verify(&data[0], &genesis);
        assert_eq!((code, found["corrupt"].as_array().map(Vec::len)), (Some(1), Some(1)), "byte {at}: {found:#}");
    }
    fs::write(&segment, &whole[..whole.len() - 3]).unwrap();
    let (code, found) = verify(&data[0], &genesis);
    assert!(code == Some(0) && found["incomplete_at"].is_u64(), "{found:#}");
    let other = folder.path().join("other");
    let made = alpenglow(&["genesis", "--validators", "5", "--out", other.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let refused = blocks(&["verify", "--genesis", other.join("genesis.json").to_str().unwrap()], &data[1]);
    assert!(refused.status.code() == Some(1) && String::from_utf8_lossy(&refused.stderr).contains("is of cluster"));
}
