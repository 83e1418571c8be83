// Program naming is a peer in etcd's naming package: it reads and writes endpoints as grpc-go's servers and clients do.
//
//	naming see ETCD TARGET ADDRESS   until ADDRESS is an endpoint of TARGET, and grpc-go dials it
//	naming add ETCD TARGET ADDRESS   adds an endpoint under a lease, and deletes it when stdin ends
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	patience = 20 * time.Second
	ttl      = 10
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "naming:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return errors.New("arguments: see|add ETCD TARGET ADDRESS")
	}
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{args[1]}, DialTimeout: patience})
	if err != nil {
		return err
	}
	defer etcd.Close()
	target, address := args[2], args[3]
	manager, err := endpoints.NewManager(etcd, target)
	if err != nil {
		return err
	}
	switch args[0] {
	case "see":
		if err := isListed(manager, address); err != nil {
			return err
		}
		return isDialled(etcd, target, address)
	case "add":
		return add(etcd, manager, target, address)
	}
	return fmt.Errorf("%s: see and add are known", args[0])
}

// isListed follows the endpoints until one has the address.
func isListed(manager endpoints.Manager, address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	changes, err := manager.NewWatchChannel(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not listed within %s", address, patience)
		case updates := <-changes:
			for _, update := range updates {
				if update.Op == endpoints.Add && update.Endpoint.Addr == address {
					fmt.Println("listed", update.Key, update.Endpoint.Addr, update.Endpoint.Metadata)
					return nil
				}
			}
		}
	}
}

// isDialled resolves the target as a client of gRPC does, until it connects to the address.
func isDialled(etcd *clientv3.Client, target, address string) error {
	builder, err := resolver.NewBuilder(etcd)
	if err != nil {
		return err
	}
	dialled := make(chan struct{}, 1)
	dial := func(ctx context.Context, to string) (net.Conn, error) {
		if to == address {
			select {
			case dialled <- struct{}{}:
			default:
			}
		}
		return nil, errors.New("seen")
	}
	connection, err := grpc.Dial("etcd:///"+target, grpc.WithResolvers(builder), grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.Connect()
	select {
	case <-dialled:
		fmt.Println("dialled", address)
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s is not dialled within %s", address, patience)
	}
}

func add(etcd *clientv3.Client, manager endpoints.Manager, target, address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	lease, err := etcd.Grant(ctx, ttl)
	if err != nil {
		return err
	}
	key := target + "/go-peer"
	endpoint := endpoints.Endpoint{Addr: address, Metadata: map[string]interface{}{"weight": 2, "zone": "b"}}
	if err := manager.AddEndpoint(ctx, key, endpoint, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	renewals, err := etcd.KeepAlive(context.Background(), lease.ID)
	if err != nil {
		return err
	}
	go func() {
		for range renewals {
		}
	}()
	fmt.Println("added", key)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	last, done := context.WithTimeout(context.Background(), patience)
	defer done()
	return manager.DeleteEndpoint(last, key)
}
