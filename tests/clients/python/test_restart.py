"""A server that is stopped keeps everything."""


def test_a_clean_stop_keeps_everything_and_exits_with_0(bench):
    bench.create_topic()
    subscription = bench.create_subscription("kept")
    ids = set(bench.publish(20))
    acked = bench.pull_some(subscription, 5)
    bench.acknowledge(subscription, [one.ack_id for one in acked])
    held = bench.pull_some(subscription, 5)
    assert bench.server.stop() == 0
    bench.server.start()
    left = ids - {one.message.message_id for one in acked + held}
    assert {one.message.message_id for one in bench.pull_some(subscription, 10)} == left
    bench.acknowledge(subscription, [one.ack_id for one in held])  # ack ids from before the restart work
    bench.assert_all_acknowledged(subscription, [one.ack_id for one in acked + held])
