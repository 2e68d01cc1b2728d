//! Properties of the way from slice to shreds and back, for any parameters, payload, order and loss.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

mod support;

use alpenglow_rotor::assembler::{Assembler, Decoded, Inserted};
use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::shred::ShredView;
use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::{Time, ValidatorIndex};
use proptest::prelude::*;
use support::{CLUSTER, Shreds, leader, slice_id};

const BUDGET: usize = 4 << 20;

fn parameters() -> impl Strategy<Value = CodingParameters> {
    let narrow = [(32, 64), (16, 32), (1, 2), (32, 96), (2, 5), (200, 255), (3, 255)];
    let wide = [(32, 320), (255, 512), (1, 257)];
    let rs8 = narrow.map(|gammas| (Code::Rs8, gammas));
    let leopard16 = narrow.into_iter().step_by(3).chain(wide).map(|gammas| (Code::Leopard16, gammas));
    let codes = prop::sample::select(rs8.into_iter().chain(leopard16).collect::<Vec<_>>());
    (codes, 32..=416_usize)
        .prop_map(|((code, (data, total)), half)| CodingParameters::new(code, data, total, 2 * half, 1_232).unwrap())
}

/// Parameters, a payload that fits, and the order in which shreds come: at least gamma different ones, with
/// repetitions.
fn arrivals() -> impl Strategy<Value = (CodingParameters, Vec<u8>, Vec<usize>)> {
    parameters().prop_flat_map(|parameters| {
        let (data, total) = (parameters.data_shreds(), parameters.total_shreds());
        let payload =
            (0..=parameters.slice_payload_bytes()).prop_flat_map(|length| prop::collection::vec(any::<u8>(), length));
        let order =
            (Just((0..total).collect::<Vec<_>>()).prop_shuffle(), data..=total).prop_flat_map(|(mut order, count)| {
                order.truncate(count);
                let repeated = prop::collection::vec(prop::sample::select(order.clone()), 0..8);
                (Just(order), repeated, any::<bool>()).prop_map(|(mut order, repeated, first)| {
                    if first {
                        order.splice(0..0, repeated);
                    } else {
                        order.extend(repeated);
                    }
                    order
                })
            });
        (Just(parameters), payload, order)
    })
}

/// Inserts the shred that `bytes` may be; the slice if that decides it.
fn receive(assembler: &mut Assembler, parameters: &CodingParameters, bytes: &[u8], sender: u16) -> Option<Slice> {
    let shred = ShredView::parse(bytes, parameters).ok()?;
    let verified = assembler.verify(&shred, None, ValidatorIndex(sender), &leader().verifying_key()).ok()?;
    if assembler.insert(&shred, verified, Time(1)) != Inserted::Complete {
        return None;
    }
    match assembler.decode(shred.slice()) {
        Some(Decoded::Slice(slice)) => Some(slice),
        other => panic!("an honest leader's slice became {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_gamma_shreds_in_any_order_give_the_payload((parameters, payload, order) in arrivals()) {
        let id = slice_id(9, 5);
        let shreds = Shreds::new(parameters, id, true, &payload);
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
            let mut assembler = Assembler::with_kernel(parameters, CLUSTER, BUDGET, kernel);
            let slices: Vec<_> =
                order.iter().filter_map(|index| receive(&mut assembler, &parameters, &shreds.bytes[*index], 1)).collect();
            prop_assert_eq!(slices.len(), 1, "decoded once");
            let slice = &slices[0];
            prop_assert_eq!(&*slice.payload, payload.as_slice());
            prop_assert_eq!((slice.id, slice.is_last, slice.leader_stamp_ns), (id, true, 77));
            prop_assert_eq!((slice.root, slice.signature), (shreds.shredded.root, shreds.shredded.signature));
        }
    }

    #[test]
    fn fewer_than_gamma_shreds_decide_nothing((parameters, payload, order) in arrivals()) {
        let shreds = Shreds::new(parameters, slice_id(9, 5), false, &payload);
        let mut assembler = Assembler::new(parameters, CLUSTER, BUDGET);
        let mut few = order;
        few.sort_unstable();
        few.dedup();
        few.truncate(parameters.data_shreds() - 1);
        for index in few {
            prop_assert!(receive(&mut assembler, &parameters, &shreds.bytes[index], 1).is_none());
        }
        prop_assert!(assembler.decode(slice_id(9, 5)).is_none());
    }

    /// Shreds with changed, missing or added bytes come between the good ones, from other senders: the slice comes out
    /// all the same, once, and nothing else does.
    #[test]
    fn spoilt_shreds_change_nothing(
        (parameters, payload, order) in arrivals(),
        spoilt in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..=255_u8, 0..4_u8, any::<prop::sample::Index>()),
            1..40
        ),
    ) {
        let id = slice_id(9, 5);
        let shreds = Shreds::new(parameters, id, false, &payload);
        let mut assembler = Assembler::new(parameters, CLUSTER, BUDGET);
        let mut arrivals: Vec<(Vec<u8>, u16)> = order.iter().map(|index| (shreds.bytes[*index].clone(), 1)).collect();
        for (number, (which, place, change, kind, position)) in spoilt.into_iter().enumerate() {
            let mut bytes = shreds.bytes[which.index(shreds.bytes.len())].clone();
            let place = place.index(bytes.len());
            match kind {
                0 => bytes.truncate(place),
                1 => bytes.extend(vec![change; 1 + place % 40]),
                _ => bytes[place] ^= change,
            }
            arrivals.insert(position.index(arrivals.len() + 1), (bytes, 2 + number as u16));
        }
        let slices: Vec<_> =
            arrivals.iter().filter_map(|(bytes, sender)| receive(&mut assembler, &parameters, bytes, *sender)).collect();
        prop_assert_eq!(slices.len(), 1);
        prop_assert_eq!((slices[0].id, slices[0].root), (id, shreds.shredded.root));
        prop_assert_eq!(&*slices[0].payload, payload.as_slice());
    }

    #[test]
    fn any_bytes_are_a_shred_or_an_error(parameters in parameters(), bytes in prop::collection::vec(any::<u8>(), 0..1_300)) {
        if let Ok(shred) = ShredView::parse(&bytes, &parameters) {
            let mut assembler = Assembler::new(parameters, CLUSTER, BUDGET);
            prop_assert!(assembler.verify(&shred, None, ValidatorIndex(0), &leader().verifying_key()).is_err());
        }
    }
}
