package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "cartpole/gen/aisandbox/v1"
)

// attach dials the service and serves session after session, until the context ends or the service refuses the simulator.
func attach(ctx context.Context, address string, register *pb.RegisterSimulator) error {
	// A NAT forgets a silent connection, and a place waits for hours.
	pings := keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}
	channel, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithKeepaliveParams(pings))
	if err != nil {
		return err
	}
	defer channel.Close()
	for wait := time.Second; ; {
		registered, err := serveStream(ctx, pb.NewSimulatorPoolServiceClient(channel), register)
		switch status.Code(err) {
		case codes.InvalidArgument, codes.FailedPrecondition, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if registered {
			wait = time.Second
		}
		fmt.Printf("attaching again in %s: %v\n", wait, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
			wait = min(2*wait, 30*time.Second)
		}
	}
}

// serveStream is one place in the pool. It says whether the simulator got the place, and why the stream ended.
func serveStream(ctx context.Context, client pb.SimulatorPoolServiceClient, register *pb.RegisterSimulator) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Attach(ctx)
	if err != nil {
		return false, err
	}
	// An error of Send is io.EOF; Recv has the status.
	_ = stream.Send(&pb.AttachRequest{Message: &pb.AttachRequest_Register{Register: register}})
	registered := false
	var session *Session
	said := false // this side has ended the session and waits for the service's word
	for {
		response, err := stream.Recv()
		if err != nil {
			return registered, err
		}
		switch message := response.Message.(type) {
		case *pb.AttachResponse_Registered:
			registered = true
			fmt.Printf("attached to pool %s as %s\n", register.Pool, register.Instance)
		case *pb.AttachResponse_SessionEnded:
			if !said {
				_ = stream.Send(sessionEnded(nil))
			}
			session, said = nil, false
		case *pb.AttachResponse_Request:
			if said {
				continue // it was on its way
			}
			reply, err := answer(&session, message.Request)
			if err != nil {
				session, said = nil, true
				_ = stream.Send(sessionEnded(err))
				continue
			}
			_ = stream.Send(&pb.AttachRequest{Message: &pb.AttachRequest_Reply{Reply: reply}})
		}
	}
}

// answer opens the session with its first request. Its error is the status with which the session ends.
func answer(session **Session, request *pb.SimulatorRequest) (*pb.SimulatorReply, error) {
	if *session != nil {
		return (*session).Answer(request), nil
	}
	opened, err := openSession(request)
	if err != nil {
		return nil, err
	}
	*session = opened
	return &pb.SimulatorReply{Reply: &pb.SimulatorReply_Open{Open: &pb.OpenReply{Spec: spec}}}, nil
}

func sessionEnded(err error) *pb.AttachRequest {
	why := status.Convert(err)
	ended := &pb.SessionEnded{Code: int32(why.Code()), Message: why.Message()}
	return &pb.AttachRequest{Message: &pb.AttachRequest_SessionEnded{SessionEnded: ended}}
}
