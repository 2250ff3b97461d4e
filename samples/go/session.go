package main

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	pb "cartpole/gen/aisandbox/v1"
)

const protocolVersion = 1

// spec says what is observed and done. float32 leaves of a Box, and one of two actions.
var spec = &pb.EnvironmentSpec{
	ObservationSpace: &pb.Space{Kind: &pb.Space_Box{Box: &pb.Box{
		Dtype: pb.DataType_DATA_TYPE_FLOAT32, Shape: []int64{4}, Names: []string{"position", "speed", "angle", "turn"},
	}}},
	ActionSpace:     &pb.Space{Kind: &pb.Space_Discrete{Discrete: &pb.Discrete{N: 2, Names: []string{"left", "right"}}}},
	MaxEpisodeSteps: maxEpisodeSteps,
	SecondsPerStep:  tau,
}

// Session is the environments of one training run. It is the same whether the trainer dialled or the simulator did.
type Session struct {
	environments []*CartPole
	started      bool
}

// openSession answers the first request of a session. Its error is a status, which ends the session.
func openSession(request *pb.SimulatorRequest) (*Session, error) {
	open := request.GetOpen()
	switch {
	case open == nil:
		return nil, status.Error(codes.InvalidArgument, "the first request must be open")
	case open.ProtocolVersion != protocolVersion:
		return nil, status.Errorf(codes.FailedPrecondition,
			"open.protocol_version: this simulator speaks %d, the client %d", protocolVersion, open.ProtocolVersion)
	case open.Environments < 1:
		return nil, status.Error(codes.InvalidArgument, "open.environments: must be at least 1")
	}
	gravity, err := gravityOf(open.Options)
	if err != nil {
		return nil, err
	}
	session := &Session{}
	for range open.Environments {
		session.environments = append(session.environments, newCartPole(gravity))
	}
	return session, nil
}

// gravityOf reads the only option. A Struct has float64 numbers only, and an unknown key must not be ignored.
func gravityOf(options *structpb.Struct) (float64, error) {
	gravity := 9.8
	for key, value := range options.GetFields() {
		if key != "gravity" {
			return 0, status.Errorf(codes.InvalidArgument, "open.options: %q is unknown; there is: gravity", key)
		}
		number, ok := value.Kind.(*structpb.Value_NumberValue)
		if !ok || number.NumberValue <= 0 || math.IsInf(number.NumberValue, 0) || math.IsNaN(number.NumberValue) {
			return 0, status.Errorf(codes.InvalidArgument, "open.options.gravity: must be a number above 0")
		}
		gravity = number.NumberValue
	}
	return gravity, nil
}

// Answer gives the reply to a request. A wrong one gets an error and changes nothing.
func (s *Session) Answer(request *pb.SimulatorRequest) *pb.SimulatorReply {
	switch request := request.Request.(type) {
	case *pb.SimulatorRequest_Reset_: // with "_", because the message has a method Reset
		return s.reset(request.Reset_.Seeds)
	case *pb.SimulatorRequest_Step:
		return s.step(request.Step.Actions)
	case *pb.SimulatorRequest_Open:
		return refused(pb.SimulatorErrorCode_SIMULATOR_ERROR_CODE_OUT_OF_ORDER, "open: the session is open already")
	default:
		return refused(pb.SimulatorErrorCode_SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, "the request is empty")
	}
}

func (s *Session) reset(seeds []uint64) *pb.SimulatorReply {
	if len(seeds) != 0 && len(seeds) != len(s.environments) {
		return refused(pb.SimulatorErrorCode_SIMULATOR_ERROR_CODE_INVALID_ARGUMENT,
			fmt.Sprintf("reset.seeds: %d for %d environments", len(seeds), len(s.environments)))
	}
	for i, environment := range s.environments {
		if len(seeds) > 0 {
			environment.Seed(seeds[i])
		}
		environment.Reset()
	}
	s.started = true
	reset := &pb.ResetReply{Observations: []*pb.Tensor{batch(s.environments)}}
	return &pb.SimulatorReply{Reply: &pb.SimulatorReply_Reset_{Reset_: reset}}
}

func (s *Session) step(actions *pb.Tensor) *pb.SimulatorReply {
	if !s.started {
		return refused(pb.SimulatorErrorCode_SIMULATOR_ERROR_CODE_OUT_OF_ORDER, "step: reset comes before the first step")
	}
	chosen, ok := discreteActions(actions, len(s.environments))
	if !ok {
		return refused(pb.SimulatorErrorCode_SIMULATOR_ERROR_CODE_INVALID_ARGUMENT,
			fmt.Sprintf("step.actions: must be int64 [%d], each 0 or 1", len(s.environments)))
	}
	n := len(s.environments)
	terminated, truncated, rewards := make([]byte, n), make([]byte, n), make([]byte, 0, 4*n)
	final := &pb.Tensor{Dtype: pb.DataType_DATA_TYPE_FLOAT32}
	for i, environment := range s.environments {
		fallen, timeUp := environment.Step(chosen[i])
		rewards = appendFloat32(rewards, 1)
		if fallen || timeUp {
			terminated[i], truncated[i] = bit(fallen), bit(timeUp)
			final.Data = appendState(final.Data, environment) // the last observation of the old episode
			environment.Reset()                               // before the next one begins
		}
	}
	step := &pb.StepReply{
		Observations: []*pb.Tensor{batch(s.environments)}, Rewards: rewards, Terminated: terminated, Truncated: truncated,
	}
	if ended := len(final.Data) / 16; ended > 0 {
		final.Shape = []int64{int64(ended), 4}
		step.FinalObservations = []*pb.Tensor{final}
	}
	return &pb.SimulatorReply{Reply: &pb.SimulatorReply_Step{Step: step}}
}

func discreteActions(tensor *pb.Tensor, n int) ([]int64, bool) {
	shape := tensor.GetShape()
	if tensor.GetDtype() != pb.DataType_DATA_TYPE_INT64 || len(shape) != 1 || shape[0] != int64(n) || len(tensor.Data) != 8*n {
		return nil, false
	}
	actions := make([]int64, n)
	for i := range actions {
		actions[i] = int64(binary.LittleEndian.Uint64(tensor.Data[8*i:]))
		if actions[i] < 0 || actions[i] > 1 {
			return nil, false
		}
	}
	return actions, true
}

// batch is the observations of all environments: one tensor, a row for each.
func batch(environments []*CartPole) *pb.Tensor {
	tensor := &pb.Tensor{Dtype: pb.DataType_DATA_TYPE_FLOAT32, Shape: []int64{int64(len(environments)), 4}}
	for _, environment := range environments {
		tensor.Data = appendState(tensor.Data, environment)
	}
	return tensor
}

func appendState(data []byte, environment *CartPole) []byte {
	for _, value := range environment.state {
		data = appendFloat32(data, float32(value))
	}
	return data
}

func appendFloat32(data []byte, value float32) []byte {
	return binary.LittleEndian.AppendUint32(data, math.Float32bits(value))
}

func bit(value bool) byte {
	if value {
		return 1
	}
	return 0
}

func refused(code pb.SimulatorErrorCode, message string) *pb.SimulatorReply {
	return &pb.SimulatorReply{Reply: &pb.SimulatorReply_Error{Error: &pb.SimulatorError{Code: code, Message: message}}}
}
