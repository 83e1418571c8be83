// Program zinx is a client of zinx at a gate that answers message 1 with its own content, and message 9 with an error frame:
//
//	zinx tcp|ws HOST PORT
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/aceld/zinx/ziface"
	"github.com/aceld/zinx/znet"
)

const (
	messages = 20
	patience = 20 * time.Second
)

type frame struct {
	id   uint32
	data string
}

type router struct {
	znet.BaseRouter
	heard chan<- frame
}

func (r *router) Handle(request ziface.IRequest) {
	r.heard <- frame{request.GetMsgID(), string(request.GetData())}
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "zinx: "+format+"\n", args...)
	os.Exit(1)
}

func main() {
	if len(os.Args) != 4 {
		fail("arguments: tcp|ws HOST PORT")
	}
	port, err := strconv.Atoi(os.Args[3])
	if err != nil {
		fail("%v", err)
	}
	dial := znet.NewClient
	if os.Args[1] == "ws" {
		dial = znet.NewWsClient
	}
	client := dial(os.Args[2], port)
	heard, connected := make(chan frame, messages), make(chan ziface.IConnection, 1)
	for _, id := range []uint32{0, 1, ziface.HeartBeatDefaultMsgID} {
		client.AddRouter(id, &router{heard: heard})
	}
	client.SetOnConnStart(func(connection ziface.IConnection) { connected <- connection })
	client.Start()

	over := time.After(patience)
	next := func(from <-chan frame) frame {
		select {
		case got := <-from:
			return got
		case err := <-client.GetErrChan():
			fail("%v", err)
		case <-over:
			fail("no frame within %s", patience)
		}
		return frame{}
	}
	var connection ziface.IConnection
	select {
	case connection = <-connected:
	case err := <-client.GetErrChan():
		fail("%v", err)
	case <-over:
		fail("no connection within %s", patience)
	}
	send := func(id uint32, data string) {
		if err := connection.SendMsg(id, []byte(data)); err != nil {
			fail("%v", err)
		}
	}
	for number := 0; number < messages; number++ {
		send(1, fmt.Sprintf("message %d", number))
	}
	// zinx handles what it reads in a goroutine each, so in no order.
	answers := map[frame]bool{}
	for len(answers) < messages {
		answers[next(heard)] = true
	}
	for number := 0; number < messages; number++ {
		if wanted := (frame{1, fmt.Sprintf("message %d", number)}); !answers[wanted] {
			fail("%v instead of %v", answers, wanted)
		}
	}
	fmt.Println(messages, "messages answered")
	send(1, "")
	if got := next(heard); got != (frame{1, ""}) {
		fail("%v, not an empty message", got)
	}
	send(9, "to nobody")
	var refusal struct {
		MsgId uint32 `json:"msg_id"`
		Code  string
	}
	got := next(heard)
	if err := json.Unmarshal([]byte(got.data), &refusal); err != nil || got.id != 0 || refusal.MsgId != 9 || refusal.Code != "not_found" {
		fail("no refusal of message 9: %v (%v)", got, err)
	}
	fmt.Println("refused:", got.data)
	send(ziface.HeartBeatDefaultMsgID, "alive?")
	if beat := next(heard); beat != (frame{ziface.HeartBeatDefaultMsgID, "alive?"}) {
		fail("heartbeat: %v", beat)
	}
	fmt.Println("heartbeat answered")
	client.Stop()
}
