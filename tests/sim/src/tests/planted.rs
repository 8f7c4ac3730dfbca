//! The proof that the checker finds what is planted, each within a stated number of seeds.

use peerd::core::replica::Faults;

use crate::{schedule::Schedule, script::Planted, shrink::play_caught};

/// The first seed below `limit` at which a planted fault is found.
fn found_at(planted: Planted, limit: u64) -> Option<u64> {
    (0..limit).find(|seed| !play_caught(&Schedule::draw(*seed), planted).violations.is_empty())
}

fn in_replicas(replica: Faults) -> Planted {
    Planted { replica, ..Planted::default() }
}

macro_rules! is_found {
    ($name:ident, $limit:literal, $planted:expr) => {
        #[test]
        fn $name() {
            let seed = found_at($planted, $limit);
            assert!(seed.is_some(), "not found within {} seeds", $limit);
        }
    };
}

is_found!(
    acknowledging_before_the_commit_is_found,
    500,
    Planted { effects_first: true, ..Planted::default() }
);
is_found!(
    showing_before_the_commit_is_found,
    100,
    Planted { shows_first: true, ..Planted::default() }
);
is_found!(
    linking_and_serving_anyone_is_found,
    200,
    Planted {
        link_anyone: true,
        ..in_replicas(Faults { serve_anyone: true, ..Faults::default() })
    }
);
is_found!(
    serving_a_non_member_is_found,
    500,
    in_replicas(Faults { serve_anyone: true, ..Faults::default() })
);
is_found!(
    taking_an_entry_twice_is_found,
    100,
    in_replicas(Faults { no_dedup: true, ..Faults::default() })
);
is_found!(
    leaving_out_the_catch_up_is_found,
    20,
    in_replicas(Faults { no_catch_up: true, ..Faults::default() })
);
is_found!(
    claiming_what_is_not_held_is_found,
    20,
    in_replicas(Faults { claim_more: true, ..Faults::default() })
);
is_found!(
    a_hidden_exception_is_found,
    200,
    in_replicas(Faults { hide_exceptions: true, ..Faults::default() })
);
is_found!(
    a_vector_that_is_never_told_is_found,
    50,
    in_replicas(Faults { drop_vectors: true, ..Faults::default() })
);
is_found!(
    keeping_what_others_wrote_to_oneself_is_found,
    200,
    in_replicas(Faults { no_forward: true, ..Faults::default() })
);
is_found!(
    a_frame_in_the_wrong_order_is_found,
    50,
    in_replicas(Faults { reverse_frames: true, ..Faults::default() })
);
is_found!(
    a_number_left_out_is_found,
    50,
    in_replicas(Faults { skip_numbers: true, ..Faults::default() })
);
is_found!(
    going_on_in_an_old_stream_is_found,
    500,
    in_replicas(Faults { reuse_streams: true, ..Faults::default() })
);
is_found!(
    a_lamport_clock_that_hears_nothing_is_found,
    50,
    in_replicas(Faults { deaf_lamport: true, ..Faults::default() })
);
is_found!(
    giving_up_without_asking_is_found,
    300,
    in_replicas(Faults { give_up_at_once: true, ..Faults::default() })
);
is_found!(
    taking_one_for_all_is_found,
    100,
    in_replicas(Faults { one_is_all: true, ..Faults::default() })
);

#[test]
fn forwarding_what_was_altered_is_found_unless_it_is_verified() {
    let planted = Planted { alters: true, trusts: true, ..Planted::default() };
    assert!(found_at(planted, 300).is_some());
    let verified = Planted { alters: true, ..Planted::default() };
    assert_eq!(found_at(verified, 100), None);
}
