"""A service answered by a thread, with real DDS and both executors."""

import threading

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool

from lebot_rl_ros.ros.deferred import ENDING, Worker
from ros_graph import fresh_domain, probe


@pytest.mark.parametrize('executor_type', [SingleThreadedExecutor, EventsExecutor])
def test_the_executor_goes_on_while_the_thread_works_and_answers_come_in_order(executor_type):
    domain, context = fresh_domain(), Context()
    rclpy.init(context=context, domain_id=domain)
    node, may_go, ticks, threads = Node('server', context=context), threading.Event(), [], []
    worker, answered = Worker(node), []

    def answer(request, response):
        may_go.wait(20)
        if worker.closing:
            response.message = ENDING
            return response
        threads.append((threading.get_ident(), worker.in_executor(threading.get_ident)))
        response.success, response.message = True, str(request.data)
        return response

    def at_once(request, response):
        response.message = 'at once'
        return response

    service = node.create_service(SetBool, 'work', at_once)
    worker.serve(service, answer, wanted=lambda request: request.data)
    worker.on_answer = lambda asked: answered.append(asked.spent)
    node.create_timer(0.002, lambda: ticks.append(1))
    executor = executor_type(context=context)
    executor.add_node(node)
    with probe(domain) as listening:

        def until(condition, what):
            def turn():
                executor.spin_once(timeout_sec=0.01)
                return condition()

            listening.until(turn, what)

        client = listening.node.create_client(SetBool, '/work')
        until(client.service_is_ready, 'the service')

        def ask(data):
            return client.call_async(SetBool.Request(data=data))

        # until the server knows the client, answers may be lost
        hello = []
        until(lambda: hello.append(ask(False)) or any(f.done() for f in hello), 'an answer')
        first, second, other = ask(True), ask(True), ask(False)
        until(other.done, 'the answer at once')
        assert other.result().message == 'at once'
        mark = len(ticks)
        until(lambda: len(ticks) > mark + 5, 'ticks while the thread waits')
        assert not first.done()
        may_go.set()
        until(lambda: first.done() and second.done() and len(answered) == 2, 'both answers')
        main = threading.get_ident()
        assert [pair[1] for pair in threads] == [main, main]
        assert threads[0][0] == threads[1][0] != main
        assert all(spent > 0.0 for spent in answered)
        may_go.clear()
        waiting = [ask(True), ask(True)]
        mark = len(ticks)
        until(lambda: worker.asked is not None and len(ticks) > mark + 20, 'requests in hand')
        worker.closing = True
        may_go.set()
        worker.close()
        listening.until(lambda: all(f.done() for f in waiting), 'answers at the end')
        assert [f.result().message for f in waiting] == [ENDING, ENDING]
        assert worker.in_executor(lambda: 7) == 7  # elsewhere than in the thread: in place
    node.destroy_node()
    rclpy.shutdown(context=context)
