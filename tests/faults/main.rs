//! Every row of the table of faults, with the real binaries.
//!
//! Each test is named for what a user would see. Tests that need what this machine lacks (root, a C
//! compiler) say so loudly on stderr and pass; `.ci/run` runs where nothing is lacking.
//!
//! For all rows: nothing accepted is lost, shown twice or out of its author's order, nothing panics, nobody
//! has to repair anything by hand. The tests of a row; where one is not in this folder, what is tested needs
//! no whole program. `tests/tidy` looks that each row is here and each name is a test.
//!
//! | row | fault | tests |
//! |---|---|---|
//! | 1 | kill -9 of p2pctl mid-request | `a_caller_killed_at_any_write_leaves_the_message_done_or_not_done`, `a_killed_caller_leaves_the_message_done_or_not_done` |
//! | 2 | kill -9 of peerd at any system call | `a_peer_killed_at_any_system_call_loses_doubles_and_reorders_nothing`, `a_first_start_of_a_peer_killed_at_any_system_call_is_followed_by_one_that_works`, `the_outbox_survives_kill_9_of_its_owner` |
//! | 3 | kill -9 of registryd at any system call | `a_registry_killed_at_any_system_call_forgets_nothing_and_disturbs_no_chat`, `a_first_start_of_a_registry_killed_at_any_system_call_is_followed_by_one_that_works`, `chats_do_not_notice_and_all_are_back_within_three_intervals` |
//! | 4 | all three killed at once | `ten_users_lose_and_double_nothing_while_their_daemons_are_killed_and_paused`, `all_daemons_killed_at_once_again_and_again_lose_and_double_nothing`, `kill_9_of_either_side_under_way_loses_and_doubles_nothing` |
//! | 5 | power loss | `a_peer_that_loses_power_keeps_all_that_it_acknowledged`, `a_peer_that_loses_power_in_its_first_start_starts`, `a_registry_that_loses_power_keeps_all_that_it_acknowledged`, `nothing_is_done_before_what_it_rests_on_is_on_disk`, `replicas_keep_the_guarantees_over_all_seeds` |
//! | 6 | disk full | `a_full_disk_of_the_sender_is_told_reading_goes_on_and_all_heals_without_a_restart`, `a_full_disk_of_the_recipient_makes_messages_wait_and_none_is_lost`, `a_full_disk_of_the_registry_is_told_to_who_writes_and_everybody_stays_online`, `a_peerd_whose_disk_is_full_stops_in_time_and_loses_nothing_that_was_accepted`, `a_start_on_a_full_disk_fails_with_the_reason`, `a_full_disk_refuses_what_writes_answers_what_looks_and_goes_on_by_itself`, `a_full_disk_keeps_what_waits_in_its_order_and_writes_it_once_there_is_space`, `a_registry_that_cannot_write_is_not_healthy_until_it_can` |
//! | 7 | fsync fails | `a_peer_whose_disk_fails_stops_and_has_lost_nothing_after_a_restart`, `a_registry_whose_disk_fails_stops_and_has_lost_nothing_after_a_restart`, `a_commit_that_fails_ends_the_daemon_and_nothing_behind_it_is_told`, `a_failed_fsync_is_fatal_and_a_full_disk_is_not` |
//! | 8 | registry down for an hour | `a_registry_that_is_away_for_long_stops_no_chat_and_is_not_stormed_when_it_is_back`, `known_peers_chat_on_though_one_restarts_without_the_registry` |
//! | 9 | registry restart with many sessions | `thousands_of_sessions_are_online_again_within_one_interval_of_a_restart` |
//! | 10 | partition, one-way partition, half-open link | `a_message_to_a_peer_behind_a_cut_waits_and_arrives_once_after_healing`, `a_link_that_carries_only_one_way_says_nothing_false_and_heals`, `a_link_whose_other_end_died_unheard_delivers_nothing_until_it_is_back` |
//! | 11 | a room split in halves | `a_room_split_in_halves_goes_on_in_both_and_converges_after_healing` |
//! | 12 | author dies in mid-send to a room | `a_room_hears_all_or_nothing_of_an_author_who_dies_in_mid_send`, `what_reached_one_member_reaches_all_though_its_author_died`, `what_is_behind_a_void_message_reaches_all_though_its_author_is_gone`, `what_is_behind_a_cancelled_message_reaches_all_though_its_author_is_gone` |
//! | 13 | loss, duplicates, reordering, delay | `chats_over_links_that_lose_1_percent_lose_and_double_nothing`, `chats_over_links_that_lose_10_percent_lose_and_double_nothing`, `chats_over_links_that_lose_30_percent_lose_and_double_nothing`, `rooms_over_links_that_lose_10_percent_lose_and_double_nothing`, `rooms_over_links_that_lose_30_percent_lose_and_double_nothing`, `replicas_keep_the_guarantees_over_all_seeds` |
//! | 14 | address change, NAT rebinding, suspend | `a_peer_that_moved_is_found_by_whoever_was_not_linked_with_it`, `two_members_that_move_at_once_find_each_other`, `a_peer_that_moves_to_another_address_reaches_the_others_from_there`, `a_peer_that_moves_to_another_address_is_found_there`, `a_member_that_moves_to_another_address_is_back_in_its_room`, `a_link_survives_a_nat_that_forgets_it`, `a_peer_that_slept_is_back_soon_after_it_wakes`, `a_registry_that_slept_tells_nobody_offline_when_it_wakes`, `who_was_here_when_the_registry_stopped_is_here_when_it_goes_on` |
//! | 15 | wall clock jumps | `a_wall_clock_that_jumps_changes_neither_delivery_nor_order_nor_presence`, `replicas_keep_the_guarantees_over_all_seeds` |
//! | 16 | out of descriptors, memory limit | `a_peerd_out_of_descriptors_keeps_its_session_and_its_chat`, `a_registry_out_of_descriptors_keeps_everybody_online`, `daemons_raise_their_soft_limit_of_descriptors`, `a_flood_of_requests_at_a_peerd_stays_within_bounds`, `a_flood_of_connections_at_a_registry_stays_within_bounds` |
//! | 17 | stale socket, stale lock, missing folder | `leftovers_of_a_killed_daemon_do_not_stop_the_next`, `a_place_that_cannot_be_used_is_told`, `a_socket_path_that_is_too_long_is_told_by_both_sides`, `missing_folders_are_made` |
//! | 18 | two daemons for one state at once | `of_fifty_peerds_started_at_once_one_runs_and_the_others_say_which`, `of_fifty_registries_started_at_once_on_one_folder_one_runs_and_the_others_say_which`, `a_socket_on_which_somebody_listens_is_not_taken_away` |
//! | 19 | same account on two machines | `a_taken_over_machine_stays_superseded_and_messages_go_to_the_new_one`, `a_dead_machine_lets_the_account_go_by_itself` |
//! | 20 | restored old backup | `a_peer_restored_from_an_old_backup_catches_up_and_doubles_nothing`, `a_registry_restored_from_an_old_backup_is_noticed_and_nothing_said_is_lost`, `a_registry_whose_log_of_a_room_is_shorter_than_ours_is_told_once`, `a_backup_killed_at_any_system_call_is_whole_or_the_one_before`, `a_restore_killed_at_any_system_call_leaves_the_old_registry_or_the_new` |
//! | 21 | upgrade cut short, downgrade | `databases_of_every_release_open_and_their_users_go_on_where_they_were`, `an_upgrade_killed_at_any_system_call_leaves_the_old_database_or_the_new_one`, `a_database_of_a_newer_version_is_refused_with_a_hint`, `a_newer_database_is_refused_and_left_alone`, `a_newer_schema_is_refused_with_a_hint` |
//! | 22 | programs of different versions | `an_old_peerd_answers_a_newer_client_as_far_as_it_knows`, `p2pctl_works_with_another_peerd_or_says_that_it_does_not_fit`, `links_and_requests_of_another_version_are_refused_and_harm_nobody` |
//! | 23 | a listener that stops reading | `a_listener_that_was_suspended_goes_on_where_it_was`, `a_reader_that_was_cut_resumes_and_misses_nothing` |
//! | 24 | a peer that stops reading | `a_peer_that_stops_reading_keeps_nobody_else_waiting`, `a_peer_on_a_slow_link_keeps_nobody_else_waiting`, `a_peer_that_reads_nothing_is_cut` |
//! | 25 | database corruption | `a_damaged_or_lost_database_is_refused_with_what_to_do_and_never_replaced`, `a_damaged_a_foreign_and_a_missing_database_are_refused`, `a_damaged_file_is_refused_and_left_as_it_is`, `a_file_with_a_hole_in_the_middle_is_refused` |
//! | 26 | log folder full or unwritable | `a_full_log_folder_costs_the_log_and_not_the_daemons`, `a_log_folder_that_cannot_be_written_costs_the_log_and_not_the_daemons`, `a_log_that_takes_no_more_costs_the_log_and_not_the_daemon`, `a_log_folder_that_cannot_be_written_stops_nothing` |
//! | 27 | writer thread hangs | `a_peer_whose_disk_hangs_ends_by_itself`, `a_registry_whose_disk_hangs_ends_by_itself`, `a_thread_that_hangs_is_told`, `a_registry_that_cannot_write_is_not_healthy_until_it_can` |
//! | 28 | SIGTERM under load | `a_peerd_stopped_under_load_loses_and_doubles_nothing`, `a_registry_stopped_under_load_keeps_what_it_has_acknowledged` |
//! | 29 | relay gone | `without_a_relay_whoever_cannot_be_reached_is_queued_for_with_a_reason` |
//! | 30 | DNS slow or failing | `a_name_service_that_never_answers_keeps_nobody_waiting`, `no_registry_holds_up_no_other` |

mod backups;
mod clocks;
mod disk;
mod hangs;
mod kills;
mod limits;
mod network;
mod operation;
mod peer_kills;
mod people;
mod power;
mod readers;
mod registry_kills;
mod soak;
mod startup;
mod stops;
mod swarm;
mod sweep;
mod syscalls;
mod upgrade;
mod versions;
