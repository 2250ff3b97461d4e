package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "cartpole/gen/aisandbox/v1"
)

// Server is the simulator that trainers dial.
type Server struct {
	pb.UnimplementedEnvironmentServiceServer
	capacity uint32
	mutex    sync.Mutex
	inUse    uint32
}

// Describe says what the simulator is, and how much of it is in use.
func (s *Server) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return &pb.DescribeResponse{
		ProtocolVersion: protocolVersion, Name: "CartPole", Version: "go", Spec: spec, Capacity: s.capacity, InUse: s.inUse,
	}, nil
}

// Session serves one stream, which is one session.
func (s *Server) Session(stream grpc.BidiStreamingServer[pb.SimulatorRequest, pb.SimulatorReply]) error {
	request, err := stream.Recv()
	if err != nil {
		return ended(err)
	}
	n := request.GetOpen().GetEnvironments()
	if err := s.take(n); err != nil { // before the environments are made
		return err
	}
	defer s.free(n) // however the stream ends
	session, err := openSession(request)
	if err != nil {
		return err
	}
	reply := &pb.SimulatorReply{Reply: &pb.SimulatorReply_Open{Open: &pb.OpenReply{Spec: spec}}}
	for {
		if err := stream.Send(reply); err != nil {
			return err
		}
		if request, err = stream.Recv(); err != nil {
			return ended(err)
		}
		reply = session.Answer(request)
	}
}

// ended is the status of a stream whose client has half-closed (io.EOF) or was lost.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (s *Server) take(n uint32) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if n > s.capacity-s.inUse {
		return status.Errorf(codes.ResourceExhausted, "%d environments asked for, %d of %d in use", n, s.inUse, s.capacity)
	}
	s.inUse += n
	return nil
}

func (s *Server) free(n uint32) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.inUse -= n
}
