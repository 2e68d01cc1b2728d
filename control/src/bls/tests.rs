use super::*;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_entropy(&[seed; 32])
}

/// Three keys that sum to zero: each has its proof of possession, none is another one's negative.
pub(crate) fn keys_that_cancel_out() -> [SecretKey; 3] {
    let small = |value: u8| std::array::from_fn(|at| if at == 31 { value } else { 0 });
    let mut order_less_three = [0xff; 32];
    order_less_three[..24].copy_from_slice(&[
        0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53, 0xbd,
        0xa4, 0x02, 0xff, 0xfe, 0x5b, 0xfe,
    ]);
    (order_less_three[27], order_less_three[31]) = (0xfe, 0xfe);
    [small(1), small(2), order_less_three].map(|bytes| SecretKey::from_bytes(&bytes).unwrap())
}

/// The group order less the key: its public key is the negative.
fn negative(key: &SecretKey) -> SecretKey {
    let order = [
        0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53, 0xbd,
        0xa4, 0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
    ];
    let mut difference = [0; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let digit = order[at] - i32::from(key.to_bytes()[at]) - borrow;
        borrow = i32::from(digit < 0);
        difference[at] = (digit + 256 * borrow) as u8;
    }
    SecretKey::from_bytes(&difference).unwrap()
}

fn sum(keys: &[&SecretKey]) -> PublicKeySum {
    PublicKeySum::of(&keys.iter().map(|key| key.public_key()).collect::<Vec<_>>())
}

#[test]
fn a_signature_verifies_for_its_payload_and_key_only() {
    let (payload, other) = (HashedPayload::new(b"payload"), HashedPayload::new(b"other"));
    let signature = SignatureSum::from(key(1).sign(&payload));
    assert!(verify(&payload, &sum(&[&key(1)]), &signature));
    assert!(!verify(&other, &sum(&[&key(1)]), &signature));
    assert!(!verify(&payload, &sum(&[&key(2)]), &signature));
}

#[test]
fn sums_verify_as_sums_however_they_are_added_up() {
    let payload = HashedPayload::new(b"payload");
    let keys: Vec<SecretKey> = (1..=20).map(key).collect();
    let signatures: Vec<Signature> = keys.iter().map(|key| key.sign(&payload)).collect();
    let at_once = SignatureSum::of(&signatures);
    let mut one_by_one = SignatureSum::default();
    for signature in &signatures[..7] {
        one_by_one.add(signature);
    }
    one_by_one.add_sum(&SignatureSum::of(&signatures[7..]));
    assert_eq!(at_once.to_bytes(), one_by_one.to_bytes());
    assert_eq!(
        at_once.minus(&SignatureSum::of(&signatures[..7])).to_bytes(),
        SignatureSum::of(&signatures[7..]).to_bytes()
    );
    let public: Vec<PublicKey> = keys.iter().map(SecretKey::public_key).collect();
    let key_sum = PublicKeySum::of(&public[..5]).plus(&PublicKeySum::of(&public[5..]));
    assert!(verify(&payload, &key_sum, &at_once));
    assert!(!verify(&payload, &key_sum.minus(&PublicKeySum::of(&public[..1])), &at_once));
}

#[test]
fn the_same_point_twice_is_doubled() {
    let payload = HashedPayload::new(b"payload");
    let signature = key(1).sign(&payload);
    let twice = SignatureSum::of(&[signature, signature]);
    assert!(verify(&payload, &sum(&[&key(1), &key(1)]), &twice));
    let mut added = SignatureSum::from(signature);
    added.add(&signature);
    assert_eq!(added.to_bytes(), twice.to_bytes());
}

#[test]
fn a_sum_over_two_payloads_verifies_term_by_term() {
    let (first, second) = (HashedPayload::new(b"first"), HashedPayload::new(b"second"));
    let signatures = SignatureSum::of(&[key(1).sign(&first), key(2).sign(&second), key(1).sign(&second)]);
    let (left, right) = (sum(&[&key(1)]), sum(&[&key(1), &key(2)]));
    assert!(verify_terms(&[(&first, &left), (&second, &right)], &signatures));
    assert!(!verify_terms(&[(&first, &right), (&second, &left)], &signatures));
    assert!(!verify_terms(&[], &signatures));
}

#[test]
fn defect_24_keys_that_sum_to_infinity_verify_nothing() {
    let payload = HashedPayload::new(b"payload");
    let cancelled = sum(&[&key(1), &negative(&key(1))]);
    assert!(cancelled.is_infinity());
    assert!(!verify(&payload, &cancelled, &SignatureSum::default()));
    assert!(!verify(&payload, &cancelled, &SignatureSum::from(key(1).sign(&payload))));
    assert!(!verify(&payload, &sum(&[&key(1)]), &SignatureSum::default()));
    let honest = (&payload, &sum(&[&key(2)]));
    assert!(!verify_terms(&[honest, (&payload, &cancelled)], &SignatureSum::from(key(2).sign(&payload))));
}

#[test]
fn a_key_and_its_negative_share_the_abscissa() {
    assert_eq!(key(1).public_key().abscissa(), negative(&key(1)).public_key().abscissa());
    assert_ne!(key(1).public_key().to_bytes(), negative(&key(1)).public_key().to_bytes());
    assert_ne!(key(1).public_key().abscissa(), key(2).public_key().abscissa());
}

#[test]
fn defect_24_infinity_is_refused_as_signature_and_as_key() {
    let mut bytes = [0; SIGNATURE_BYTES];
    assert_eq!(Signature::from_bytes(&SignatureBytes(bytes)).err(), Some(BlsError::Encoding));
    bytes[0] = 0x40;
    assert_eq!(Signature::from_bytes(&SignatureBytes(bytes)).err(), Some(BlsError::Infinity));
    let mut bytes = [0; PUBLIC_KEY_BYTES];
    bytes[0] = 0xc0;
    assert_eq!(PublicKey::from_bytes(&PublicKeyBytes(bytes)).err(), Some(BlsError::Infinity));
}

#[test]
fn only_the_canonical_encoding_of_a_point_is_read() {
    let good = key(1).sign(&HashedPayload::new(b"payload")).to_bytes();
    assert_eq!(Signature::from_bytes(&good).unwrap().to_bytes(), good);
    for flag in [0x20, 0x40, 0x80, 0xa0, 0xc0, 0xe0] {
        let mut flagged = good;
        flagged.0[0] |= flag;
        assert!(Signature::from_bytes(&flagged).is_err(), "{flag:#x}");
    }
    let mut off_curve = good;
    off_curve.0[95] ^= 1;
    assert_eq!(Signature::from_bytes(&off_curve).err(), Some(BlsError::Encoding));
    assert_eq!(Signature::from_bytes(&SignatureBytes([0x1f; 96])).err(), Some(BlsError::Encoding));
}

#[test]
fn a_public_key_outside_the_subgroup_is_refused() {
    let found = (1u8..=255).find_map(|x| {
        let mut bytes = [0; PUBLIC_KEY_BYTES];
        (bytes[0], bytes[95]) = (0x80, x);
        PublicKey::from_bytes(&PublicKeyBytes(bytes)).err().filter(|error| *error == BlsError::Subgroup)
    });
    assert_eq!(found, Some(BlsError::Subgroup));
}

#[test]
fn possession_is_proven_by_the_keys_holder_only() {
    let (mine, other) = (key(1), key(2));
    assert!(mine.public_key().verify_possession(&mine.prove_possession()));
    assert!(!mine.public_key().verify_possession(&other.prove_possession()));
    let as_vote = mine.sign(&HashedPayload::new(&mine.public_key().to_bytes().0)).to_bytes();
    assert!(!mine.public_key().verify_possession(&ProofOfPossession(as_vote)), "a vote is no proof of possession");
    assert!(!mine.public_key().verify_possession(&ProofOfPossession(SignatureBytes([0; 96]))));
}

#[test]
fn secret_keys_round_trip_and_zero_is_none() {
    let bytes = key(3).to_bytes();
    assert!(SecretKey::from_bytes(&bytes).unwrap().public_key() == key(3).public_key());
    assert_eq!(SecretKey::from_bytes(&[0; 32]).err(), Some(BlsError::Scalar));
    assert_eq!(SecretKey::from_bytes(&[0xff; 32]).err(), Some(BlsError::Scalar));
}
