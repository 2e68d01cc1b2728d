//! What is given to others.

use super::*;

#[test]
fn who_serves_gives_no_more_than_the_budgets() {
    let block = block(coding(), 40);
    let held = Held(vec![block.clone()]);
    let limits = ServingLimits {
        requests: Allowance { per_second: 50, burst: 50 },
        peer_bytes: Allowance { per_second: 400_000, burst: 400_000 },
        bytes: Allowance { per_second: 700_000, burst: 700_000 },
    };
    let mut responder = Responder::new(limits, coding(), Recoder::new(coding(), CLUSTER), 5);
    let mut served_bytes = [0; 5];
    let mut over = 0;
    for now_ms in 0..2_000u64 {
        for peer in 1..4u16 {
            let slice = SliceIndex::new((now_ms % 40) as usize).unwrap();
            let want = Want::Shreds { slice, first: 0, mask: u32::MAX };
            let request = RepairRequest { id: RequestId(1), block: block.id, want };
            match responder.answer(Time(now_ms * MS), &request, ValidatorIndex(peer), &held) {
                Ok(answers) => {
                    let bytes: usize = answers.iter().map(|answer| encode_answer(answer).len()).sum();
                    served_bytes[usize::from(peer)] += bytes;
                }
                Err("repair_request_over_budget") => over += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(over > 5_000 && served_bytes[1] > 0);
    assert!(served_bytes.iter().all(|bytes| *bytes <= 3 * 400_000), "{served_bytes:?}");
    assert!(served_bytes.iter().sum::<usize>() <= 3 * 700_000, "{served_bytes:?}");
}

#[test]
fn requests_for_what_does_not_exist_are_refused() {
    let block = block(coding(), 3);
    let held = Held(vec![block.clone()]);
    let mut responder = Responder::new(ServingLimits::default(), coding(), Recoder::new(coding(), CLUSTER), 5);
    let slice = |index| SliceIndex::new(index).unwrap();
    let wants = [
        Want::Roots { group: 1 },
        Want::Roots { group: u16::MAX },
        Want::Shreds { slice: slice(3), first: 0, mask: 1 },
        Want::Shreds { slice: slice(0), first: 0, mask: 0 },
        Want::Shreds { slice: slice(0), first: 63, mask: 2 },
        Want::Shreds { slice: slice(0), first: u16::MAX, mask: u32::MAX },
    ];
    for want in wants {
        let request = RepairRequest { id: RequestId(1), block: block.id, want };
        let answer = responder.answer(Time(0), &request, ValidatorIndex(1), &held);
        assert_eq!(answer, Err("repair_request_invalid"), "{want:?}");
    }
    let request = RepairRequest { id: RequestId(1), block: block.id, want: Want::LastSlice };
    assert_eq!(responder.answer(Time(0), &request, ValidatorIndex(5), &held), Err("repair_request_sender"));
    assert_eq!(responder.served(), 0);
}
