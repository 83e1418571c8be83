// Program gmq calls a queue node with gmq's Go client, and checks the answers: gmq NODE, the host:port of the node's TCP port.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/wuzhc/gmq-client-go/client"
)

const (
	message = client.RESP_MESSAGE
	failure = client.RESP_ERROR
	result  = client.RESP_RESULT
	channel = 104
)

type check struct{ node *client.Client }

func (c check) answer(what string, err error, kind int) string {
	if err != nil {
		fail("%s: %v", what, err)
	}
	got, data := c.node.Recv()
	fmt.Printf("%-12s %d %s\n", what, got, data)
	if got != kind {
		fail("%s: type %d, not %d", what, got, kind)
	}
	return string(data)
}

func (c check) is(what string, err error, kind int, wanted string) {
	if got := c.answer(what, err, kind); got != wanted {
		fail("%s: %q, not %q", what, got, wanted)
	}
}

func (c check) pop(what string, err error, body string) string {
	var popped struct{ Id, Body string }
	text := c.answer(what, err, message)
	if err := json.Unmarshal([]byte(text), &popped); err != nil || popped.Body != body {
		fail("%s: no message with the body %q: %s (%v)", what, body, text, err)
	}
	return popped.Id
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "gmq: "+format+"\n", args...)
	os.Exit(1)
}

func main() {
	if len(os.Args) != 2 {
		fail("arguments: NODE")
	}
	c := check{client.NewClient(os.Args[1], 1)}
	defer c.node.Exit()
	c.is("declare", c.node.Declare("go", "k"), result, "ok")
	c.is("declare", c.node.Declare("go", "k"), failure, "E_INVALID_DECLARE - bindKey k has exist.")

	push := client.MsgPkg{Body: "hello", Topic: "go", RouteKey: "k"}
	id := c.answer("push", c.node.Push(push), result)
	if popped := c.pop("pop", c.node.Pop("go", "k"), "hello"); popped != id {
		fail("%s was pushed, and %s popped", id, popped)
	}
	c.is("ack", c.node.Ack("go", id, "k"), result, "ok")
	c.is("ack", c.node.Ack("go", id, "k"), failure, "E_INVALID_ACK - msgId:"+id+" is not exist.")
	push.RouteKey = "nowhere"
	if text := c.answer("push", c.node.Push(push), failure); !strings.Contains(text, "routeKey:nowhere is not match") {
		fail("push: %s", text)
	}

	var ids []json.Number
	batch := []client.MMsgPkg{{Body: "one"}, {Body: "two"}}
	text := c.answer("mpush", c.node.Mpush("go", batch, "k"), result)
	if err := json.Unmarshal([]byte(text), &ids); err != nil || len(ids) != len(batch) {
		fail("mpush: no two ids: %s (%v)", text, err)
	}
	for index, pushed := range batch {
		if popped := c.pop("pop", c.node.Pop("go", "k"), pushed.Body); popped != ids[index].String() {
			fail("%s was pushed, and %s popped", ids[index], popped)
		}
		c.is("ack", c.node.Ack("go", ids[index].String(), "k"), result, "ok")
	}

	c.is("dead", c.node.Dead("go", "k"), failure, "E_INVALID_DEAD - bindkey:k is not associated with queue")
	c.is("declare", c.node.Declare("auto", "k"), result, "ok")
	c.is("set", c.node.Set("auto", 1), result, "ok")
	id = c.answer("push", c.node.Push(client.MsgPkg{Body: "once", Topic: "auto", RouteKey: "k"}), result)
	c.pop("pop", c.node.Pop("auto", "k"), "once")
	c.is("ack", c.node.Ack("auto", id, "k"), failure, "E_INVALID_ACK - msgId:"+id+" is not exist.")

	hears := check{client.NewClient(os.Args[1], 1)}
	defer hears.node.Exit()
	c.is("publish", c.node.Publish("news", "nobody"), failure, "E_INVALID_PUBLISH - no subscribers")
	hears.is("subscribe", hears.node.Subscribe("news"), result, "ok")
	c.is("publish", c.node.Publish("news", "it rains"), result, "ok")
	hears.is("hears", nil, channel, "it rains")
}
