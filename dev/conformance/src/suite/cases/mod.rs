mod address;
mod alarms;
mod answers;
mod calls;
mod closing;
mod connecting;
mod failing;
mod frames;
mod front;
mod hooks;
mod limits;
mod modes;
mod origins;
mod rejecting;
mod requests;
mod rooms;
mod schedules;
mod sleeping;
mod starting;
mod storage;
mod waking;

use super::Case;

/// Calls a macro with all cases: `module { case, .. } ..`. For tests that want one test for each.
#[macro_export]
macro_rules! for_each_case {
    ($($then:tt)+) => {
        $($then)+! {
            address {
                a_party_can_have_a_prefix, a_room_is_percent_decoded, bad_encoding_is_400, double_slashes_are_one,
                extra_path_reaches_the_same_room, missing_room_is_404, pk_has_1_to_256_bytes,
                unknown_party_is_404, without_pk_an_id_is_made,
            }
            connecting {
                a_close_comes_at_once, a_failed_on_connect_was_never_here, greetings_come_first,
                ten_tags_with_the_id, tags_and_uri_are_kept, too_many_tags_fail_the_connect,
                writes_are_stored_at_open,
            }
            hooks {
                a_failing_hook_is_500, a_refusal_wakes_nobody, forged_headers_never_arrive,
                props_reach_the_room,
                state_of_the_application_reaches_hooks_and_rooms, the_chosen_protocol_is_named, unoffered_protocol_is_500,
            }
            front {
                a_handshake_without_its_upgrade_is_told, addresses_have_texts,
                failures_before_the_room_have_an_id, handshakes_have_texts,
                hooks_answer_as_rooms_do, pages_may_read_refusals,
            }
            origins {
                a_foreign_page_is_refused, a_party_can_have_pages_of_its_own, a_page_of_this_host_is_let_in, preflight_is_answered,
            }
            frames {
                a_burst_arrives_whole, auto_response_passes_the_room_by,
                many_frames_keep_their_order, one_handler_after_another, order_survives_sleep,
                pings_are_answered, small_frames_arrive_whole, text_stays_text_and_binary_binary,
                up_to_1_mib,
            }
            rooms {
                a_broadcast_can_leave_out, connections_come_in_order, one_id_twice,
                state_survives_sleep, tags_select,
            }
            limits { bodies_have_a_limit, messages_have_a_limit, rooms_have_a_limit }
            closing {
                a_code_and_reason_are_echoed, a_drop_is_1006, a_server_close_reaches_the_client,
                closed_is_not_listed, normal_is_1000, what_was_said_before_is_handled,
                without_a_code_is_1005,
            }
            failing {
                a_panic_renews_the_instance, an_error_keeps_the_instance,
                nothing_is_left_of_an_error_after_a_write,
                nothing_is_left_of_a_panic_after_a_write, others_are_not_touched,
                requests_fail_with_500,
            }
            rejecting {
                a_connect_is_closed_with_the_code, a_hook_opens_and_closes,
                a_message_is_dropped, a_request_has_the_status, bad_json_is_400, junk_is_no_failure,
            }
            answers {
                answers_may_be_alike, calls_hear_what_was_answered, cookies_stay_apart,
                encoded_bodies_are_left_alone, heads_have_no_body, hooks_may_redirect,
                internal_headers_stay_inside, redirects_reach_the_client,
                some_statuses_have_no_body,
            }
            requests { default_is_404, the_answer_is_the_rooms, the_room_sees_the_request }
            starting {
                a_failing_start_is_tried_again, a_hundred_at_once_see_one_start,
                the_reason_is_told,
            }
            storage {
                a_failed_handler_leaves_nothing, calls_take_128_keys,
                delete_all_leaves_nothing, handlers_write_32_mib, keys_have_2048_bytes,
                lists_have_bounds, lists_see_what_the_handler_wrote,
                rows_have_two_million_bytes, streams_are_lists, sync_outlives_a_failure,
                transactions_can_be_undone,
            }
            alarms {
                a_failed_handler_sets_none, a_failing_one_rings_again, a_past_one_rings_at_once,
                delete_all_deletes_it, it_can_be_deleted, it_can_be_replaced,
                its_handler_sets_the_next, one_too_late_is_an_error, rings_once_at_its_time,
                rings_where_nobody_is, sleepers_are_woken, the_new_one_replaces_a_retry,
            }
            schedules {
                a_failing_one_runs_again, delete_all_deletes_them,
                one_that_repeats_goes_on, they_and_the_alarm_ring_in_order,
            }
            sleeping { storage_survives, tasks_come_back, waiting_takes_its_time }
            waking {
                a_broadcast_from_outside_does_not, a_connect_wakes, a_disconnect_wakes,
                a_drop_wakes, a_message_wakes, a_ping_does_not, a_pong_does_not,
                a_request_wakes, asking_does_not, auto_response_does_not,
            }
            calls {
                a_call_is_answered, a_cycle_is_refused, a_tell_arrives, after_a_write_is_refused,
                failures_are_told, nobody_there_is_told, one_wakes_another_by_a_channel,
                sleepers_are_woken,
            }
            modes { differ_in_nothing }
        }
    };
}

macro_rules! table {
    ($($module:ident { $($case:ident),* $(,)? })*) => {
        /// All cases.
        pub const CASES: &[Case] = &[$($(Case {
            name: concat!(stringify!($module), "::", stringify!($case)),
            run: |target| Box::pin(async move { $module::$case(target).await.into() }),
        }),*),*];
    };
}
for_each_case!(table);

/// The error id in a text: 16 hexadecimal digits.
///
/// # Panics
///
/// When there is none, or when the text tells the error.
fn assert_is_generic(text: &str) {
    let is_id = |word: &&str| word.len() == 16 && word.bytes().all(|it| it.is_ascii_hexdigit());
    let has_id = text.split(|it: char| !it.is_ascii_alphanumeric()).any(|word| is_id(&word));
    assert!(has_id, "an error id of 16 hexadecimal digits is expected in {text:?}");
    assert!(!text.contains(crate::SECRET), "a client must not see {text:?}");
    assert!(!text.contains(".rs"), "a client must not see {text:?}");
}
