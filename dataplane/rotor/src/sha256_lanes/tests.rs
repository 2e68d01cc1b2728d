use super::*;

const LONGEST: usize = 1_300;

/// The longest of `count` messages, without pattern.
fn noise(count: usize) -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| (0..LONGEST).map(|_| byte()).collect()).collect()
}

fn check(kernel: HashKernel, prefix: u8, messages: &[Vec<u8>], bytes: usize) {
    let expected: Vec<[u8; 32]> =
        messages.iter().map(|message| Sha256::digest([&[prefix], &message[..bytes]].concat()).into()).collect();
    let mut hashes = vec![[0; 32]; messages.len()];
    kernel.hash_prefixed(prefix, messages.iter().map(|message| &message[..bytes]), &mut hashes);
    assert_eq!(hashes, expected, "{} kernel, {} messages of {bytes} bytes", kernel.name(), messages.len());
}

fn available() -> impl Iterator<Item = HashKernel> {
    HashKernel::ALL.into_iter().filter(|kernel| kernel.is_available())
}

#[test]
fn messages_of_every_length_are_hashed_as_sha2_does() {
    let messages = noise(19);
    for kernel in available() {
        for bytes in (0..=330).chain([512, 896, 1_000, 1_024, 1_136, LONGEST]) {
            check(kernel, 0, &messages, bytes);
        }
    }
}

#[test]
fn any_number_of_messages_is_hashed_as_sha2_does() {
    let messages = noise(70);
    for kernel in available() {
        for count in 0..=70 {
            for bytes in [1, 64, 896] {
                check(kernel, 1, &messages[..count], bytes);
            }
        }
    }
}

#[test]
fn every_prefix_counts() {
    let messages = noise(3);
    for kernel in available() {
        (0..=255).for_each(|prefix| check(kernel, prefix, &messages, 130));
    }
}

#[test]
#[should_panic(expected = "a message for every hash")]
fn too_few_messages_are_a_mistake_of_the_caller() {
    HashKernel::best().hash_prefixed(0, [b"one".as_slice()], &mut [[0; 32]; 2]);
}

#[test]
#[should_panic(expected = "messages of one length")]
fn messages_of_different_lengths_are_a_mistake_of_the_caller() {
    HashKernel::best().hash_prefixed(0, [b"one".as_slice(), b"three"], &mut [[0; 32]; 2]);
}
