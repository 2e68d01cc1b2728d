//! What a final block descends from, for a node that is far behind.

use super::*;

/// Blocks of so many slices, of the slots 3 to `last`, each the child of the one before.
fn chain_of(slices: usize, last: u64) -> Vec<Arc<Block>> {
    let mut parent = BlockId { slot: Slot(2), hash: Hash([2; 32]) };
    let blocks = (3..=last).map(|slot| {
        let block = child(coding(), slices, Slot(slot), parent);
        parent = block.id;
        block
    });
    blocks.collect()
}

#[test]
fn the_ancestors_of_a_final_block_are_fetched_as_soon_as_its_first_slice_names_them() {
    let chain = chain_of(40, 8);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 8], &chain.iter().collect::<Vec<_>>());
    net.requester.close(net.now, Slot(8));
    let began = net.now;
    net.need(chain[5].id, Need::Final);
    let mut slots: Vec<u64> = (0..6).map(|_| net.run(10_000).expect("an ancestor").id.slot.0).collect();
    slots.sort_unstable();
    assert_eq!(slots, [3, 4, 5, 6, 7, 8]);
    let mut asked_first: Vec<BlockId> = Vec::new();
    for (_, request) in &net.asked {
        if !asked_first.contains(&request.block) {
            asked_first.push(request.block);
        }
    }
    assert_eq!(asked_first, chain.iter().rev().map(|block| block.id).collect::<Vec<_>>());
    let last_of = |block: BlockId| net.asked.iter().rposition(|(_, request)| request.block == block).unwrap();
    let first_of = |block: BlockId| net.asked.iter().position(|(_, request)| request.block == block).unwrap();
    for pair in chain.windows(2) {
        assert!(first_of(pair[0].id) < last_of(pair[1].id), "asked for only when its child was there: {}", pair[0].id);
    }
    assert!(net.now.since(began) < Duration::from_millis(6 * 30), "{:?}", net.now.since(began));
    assert!(net.run(10_000).is_none(), "what is settled is not asked for");
}

/// Fetches a final chain as the Pool asks for it: a block's parent when the block is here.
fn descend(net: &mut Net, chain: &[Arc<Block>], most_ms: u64) -> Duration {
    let began = net.now;
    let tip = chain.last().unwrap();
    net.requester.close(net.now, tip.id.slot);
    net.need(tip.id, Need::Final);
    for expected in chain.iter().rev() {
        let repaired = net.run(most_ms).unwrap_or_else(|| panic!("no block {}, {}", expected.id, net.replay()));
        assert_eq!(repaired.id, expected.id, "from above, and nothing that is not known to be needed");
        if expected.parent.slot > Slot(2) {
            net.need(repaired.outcome.unwrap().parent, Need::Final);
        }
    }
    net.now.since(began)
}

#[test]
fn a_node_that_is_far_behind_fetches_the_ancestors_side_by_side() {
    let chain = chain_of(1, 62);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 8], &chain.iter().collect::<Vec<_>>());
    net.requester.forget_through(Slot(2));
    let took = descend(&mut net, &chain, 10_000);
    // Sixty blocks, in round trips of 10 ms: one by one it would be two for each.
    assert!(took <= Duration::from_millis(120), "{took:?}");
    assert_eq!(net.counters.iter().count(), 0, "{:?}", net.counters);
    let lists = net.asked.iter().filter(|(_, request)| request.want == Want::Ancestors).count();
    assert!(lists <= 4, "{lists} lists");
    assert_eq!(net.asked.len() - lists, 2 * chain.len(), "everything else is asked for once");
    assert_eq!(net.requester.next_timeout(), None);
}

#[test]
fn what_was_only_named_is_not_given_out() {
    let chain = chain_of(1, 62);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 8], &chain.iter().collect::<Vec<_>>());
    net.requester.forget_through(Slot(2));
    net.requester.close(net.now, Slot(62));
    net.need(chain[59].id, Need::Final);
    assert_eq!(net.run(10_000).expect("the block").id, chain[59].id);
    assert!(net.run(10_000).is_none());
    net.requester.forget_through(Slot(62));
    assert_eq!(net.requester.next_timeout(), None, "and goes when nobody can need it any more");
}

#[test]
fn who_names_wrong_ancestors_is_asked_less_and_the_chain_is_fetched_all_the_same() {
    fn others(answer: &mut RepairAnswer) {
        if let AnswerContent::Ancestors { blocks } = &mut answer.content {
            blocks.iter_mut().for_each(|block| block.hash.0[0] ^= 1);
        }
    }
    fn upwards(answer: &mut RepairAnswer) {
        if let AnswerContent::Ancestors { blocks } = &mut answer.content {
            blocks.reverse();
        }
    }
    fn false_genesis(answer: &mut RepairAnswer) {
        if let AnswerContent::Ancestors { blocks } = &mut answer.content {
            blocks.truncate(1);
            blocks[0].slot = Slot(0);
        }
    }
    fn with_gaps(answer: &mut RepairAnswer) {
        if let AnswerContent::Ancestors { blocks } = &mut answer.content {
            blocks.retain(|block| block.slot.0 % 2 == 0);
        }
    }
    let lies = [
        (Behaviour::Liar(others), "repair_ancestors_wrong"),
        (Behaviour::Liar(upwards), "repair_answer_wrong"),
        (Behaviour::Liar(false_genesis), "repair_answer_wrong"),
    ];
    let chain = chain_of(1, 62);
    for (number, (liar, counted)) in lies.into_iter().enumerate() {
        let behaviours = [liar, liar, liar, Behaviour::Honest];
        let mut net = Net::new(coding(), &behaviours, &chain.iter().collect::<Vec<_>>());
        net.requester.forget_through(Slot(2));
        descend(&mut net, &chain, 30_000);
        let wrong = net.count(counted);
        assert!((1..=30).contains(&wrong), "lie {number} was told {wrong} times: {:?}", net.counters);
    }
    let mut net = Net::new(coding(), &[Behaviour::Liar(with_gaps); 4], &chain.iter().collect::<Vec<_>>());
    net.requester.forget_through(Slot(2));
    descend(&mut net, &chain, 30_000);
}

#[test]
fn a_fork_that_is_needed_too_makes_no_liar_of_who_names_the_ancestors_of_the_chain() {
    let chain = chain_of(1, 62);
    let fork = child(coding(), 1, Slot(44), chain[17].id);
    let held: Vec<_> = chain.iter().chain([&fork]).collect();
    let mut net = Net::new(coding(), &[Behaviour::Honest; 8], &held);
    net.requester.forget_through(Slot(2));
    net.requester.close(net.now, Slot(62));
    net.need(chain[59].id, Need::Final);
    assert_eq!(net.run(10_000).expect("the block").id, chain[59].id);
    net.need(fork.id, Need::Now);
    assert_eq!(net.run(10_000).expect("the fork").id, fork.id);
    let asked = net.asked.len();
    descend(&mut net, &chain[..59], 10_000);
    assert_eq!(net.counters.iter().count(), 0, "{:?}", net.counters);
    assert!(net.asked.len() <= asked + 60, "what was named is still there: {} more requests", net.asked.len() - asked);
}

#[test]
fn memory_goes_to_what_is_needed_before_what_was_only_named() {
    let chain = chain_of(1, 62);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 8], &chain.iter().collect::<Vec<_>>());
    for slices in [1, 2, 7] {
        net.limit_memory(slices);
        net.requester.forget_through(Slot(2));
        descend(&mut net, &chain, 10_000);
    }
}

#[test]
fn memory_set_aside_for_a_block_is_free_again_when_the_block_is_here() {
    let blocks: Vec<_> = (3..=8)
        .map(|slot| child(coding(), 20, Slot(slot), BlockId { slot: Slot(slot - 1), hash: Hash([2; 32]) }))
        .collect();
    let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &blocks.iter().collect::<Vec<_>>());
    net.limit_memory(30);
    for block in &blocks {
        net.repair(block, 1_000);
    }
}

#[test]
fn the_parent_of_a_block_that_is_not_final_is_not_fetched_for_it() {
    let chain = chain_of(40, 8);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 8], &chain.iter().collect::<Vec<_>>());
    net.need(chain[5].id, Need::Now);
    assert_eq!(net.run(10_000).expect("the block").id, chain[5].id);
    assert!(net.run(10_000).is_none());
}

#[test]
fn what_makes_room_for_another_block_is_not_asked_for_in_the_same_breath() {
    let mut chain = chain_of(60, 39);
    // The final one is here soon, while its ancestors are on their way.
    chain.push(child(coding(), 1, Slot(40), chain[36].id));
    let needed = child(coding(), 60, Slot(41), chain[37].id);
    for needed_after_ms in 0..100 {
        let mut net = Net::new(coding(), &[Behaviour::Honest; 8], &chain.iter().chain([&needed]).collect::<Vec<_>>());
        // For two blocks, so that the third one takes the memory of what was only named.
        net.limit_memory(130);
        net.requester.forget_through(Slot(2));
        net.requester.close(net.now, Slot(40));
        net.need(chain[37].id, Need::Final);
        let end = Time(net.now.0 + needed_after_ms * MS);
        while net.now < end {
            net.run(1);
        }
        net.need(needed.id, Need::Now);
        while net.run(10_000).expect("the block").id != needed.id {}
    }
}
