// Command cartpole is a simulator in Go: trainers dial it, or it dials the service (-attach) and joins a pool.
package main

//go:generate buf generate

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	pb "cartpole/gen/aisandbox/v1"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:50061", "the address to listen on")
	capacity := flag.Uint("capacity", 64, "the number of environments of all sessions together")
	service := flag.String("attach", "", "HOST:PORT of the service to dial, instead of listening")
	pool := flag.String("pool", "cartpole", "with -attach: the pool to join")
	instance := flag.String("instance", fmt.Sprintf("go-%d", os.Getpid()), "with -attach: the name of this simulator in the pool")
	environments := flag.Uint("environments", 8, "with -attach: the number of environments")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	run := func() error { return serve(ctx, *listen, uint32(*capacity)) }
	if *service != "" {
		register := &pb.RegisterSimulator{
			Pool: *pool, Instance: *instance, ProtocolVersion: protocolVersion, Environments: uint32(*environments), Spec: spec,
			Name: "CartPole", Version: "go",
		}
		run = func() error { return attach(ctx, *service, register) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, address string, capacity uint32) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	// A trainer that was lost holds its environments until the server pings it; the default is two hours.
	server := grpc.NewServer(grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute}))
	pb.RegisterEnvironmentServiceServer(server, &Server{capacity: capacity})
	reflection.Register(server) // for grpcurl
	go func() {
		<-ctx.Done()
		server.Stop() // ends the sessions at once
	}()
	fmt.Printf("listening on %s\n", listener.Addr())
	return server.Serve(listener)
}
