// Program msgo calls a queue node with msgo's Go client, which finds it in etcd: msgo ETCD.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mszlu521/msgo/register"
	"github.com/mszlu521/msgo/rpc"
)

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "msgo: "+format+"\n", args...)
	os.Exit(1)
}

func main() {
	if len(os.Args) != 2 {
		fail("arguments: ETCD")
	}
	option := rpc.DefaultOption
	option.RegisterType = "etcd"
	option.RegisterOption = register.Option{Endpoints: []string{os.Args[1]}, DialTimeout: 5 * time.Second}
	call := func(serializer rpc.SerializerType, method string, args ...interface{}) *rpc.MsRpcResponse {
		option.SerializeType = serializer
		answer, err := rpc.NewMsTcpClientProxy(option).Call(context.Background(), "mq", method, args)
		response, ok := answer.(*rpc.MsRpcResponse)
		if err == nil && !ok {
			err = errors.New("no response")
		}
		if err != nil {
			fail("%s: %v", method, err)
		}
		fmt.Printf("%-6s %d %s\n", method, response.Code, response.Msg)
		return response
	}
	expect := func(response *rpc.MsRpcResponse, code int16, text string) {
		if response.Code != code || !strings.Contains(response.Msg, text) {
			fail("%d %q, not %d with %q", response.Code, response.Msg, code, text)
		}
	}
	expect(call(rpc.ProtoBuff, "Lose", "t"), 500, "no service method found")
	expect(call(rpc.Gob, "Pop", "t"), 500, "gob is not supported: use protobuf")
	// It is pushed, and its id is more than a double holds.
	none := []interface{}{}
	push := map[string]interface{}{
		"topic": "go", "body": "aGk=", "route_key": nil, "delay_ms": 0, "priority": 0, "ttr_ms": nil, "dedup": nil, "durability": "Synced",
		"headers": none, "extensions": none,
	}
	expect(call(rpc.ProtoBuff, "Push", push), 500, "is beyond 2^53")
}
