// Package grpcapp is an internal app that speaks gRPC, by grpc-go, and its client. A call says in its metadata how it
// wants to be answered, so that one service shows every way a call can end. There is no protoc: messages are
// wrapperspb.BytesValue, and the service is described by hand.
package grpcapp

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	service  = "sallyport.test.Echo"
	wishName = "x-wish-bin"
	// HeadName is the metadata that an answer begins with, TailName and TailName-bin what it ends with.
	HeadName = "x-head"
	TailName = "x-tail"
)

// Kind is one of the four shapes of a call, named by its method.
type Kind struct {
	Method                       string
	ClientStreams, ServerStreams bool
}

// Kinds are all of them.
var Kinds = []Kind{{Method: "Unary"}, {Method: "Download", ServerStreams: true}, {Method: "Upload", ClientStreams: true},
	{Method: "Talk", ClientStreams: true, ServerStreams: true}}

// Wish is how a call wants to be answered.
type Wish struct {
	ID      string     // comes back in head and tail
	Answers int        // messages of a Download; a Talk has one for each of the client's, the others have one
	Code    codes.Code // OK, or an error that comes after the answers
	Message string
	Details []string // of the status
	// Head sends the head before anything else. Without it grpc-go answers an error that no message went before with
	// Trailers-Only: one block of header fields, which is head and end.
	Head bool
	// Early is an error at once, whatever the client still has to say, in place of all messages.
	Early bool
	// Wait is an end that does not come until the call is cancelled. The answers come before.
	Wait bool
}

// App is a running gRPC app.
type App struct {
	Address string
	open    atomic.Int64
	calls   atomic.Int64
}

// Start serves on a free loopback port for the length of the test, without TLS unless an option says otherwise.
func Start(t testing.TB, options ...grpc.ServerOption) *App {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &App{Address: listener.Addr().String()}
	server := grpc.NewServer(options...)
	server.RegisterService(a.describe(), a)
	go server.Serve(listener) // until Stop
	t.Cleanup(server.Stop)
	return a
}

// Open is how many calls the app is answering.
func (a *App) Open() int64 { return a.open.Load() }

// Calls is how many calls the app has been asked to answer.
func (a *App) Calls() int64 { return a.calls.Load() }

func (a *App) describe() *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: Kinds[0].Method, Handler: a.unary}}}
	for _, kind := range Kinds[1:] {
		desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: kind.Method, ClientStreams: kind.ClientStreams, ServerStreams: kind.ServerStreams,
			Handler: func(_ any, stream grpc.ServerStream) error { return a.stream(kind, stream) }})
	}
	return desc
}

func (a *App) unary(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	defer a.begin()()
	wish, err := wishOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := wish.announce(func(head metadata.MD) error { return grpc.SendHeader(ctx, head) }, func(head metadata.MD) error { return grpc.SetHeader(ctx, head) }); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, wish.tail()); err != nil {
		return nil, err
	}
	var asked wrapperspb.BytesValue
	if err := decode(&asked); err != nil {
		return nil, err
	}
	if err := wish.end(ctx); err != nil {
		return nil, err
	}
	return &asked, nil
}

func (a *App) stream(kind Kind, stream grpc.ServerStream) error {
	defer a.begin()()
	wish, err := wishOf(stream.Context())
	if err != nil {
		return err
	}
	if err := wish.announce(stream.SendHeader, stream.SetHeader); err != nil {
		return err
	}
	stream.SetTrailer(wish.tail())
	if !wish.Early {
		if err := wish.exchange(kind, stream); err != nil {
			return err
		}
	}
	return wish.end(stream.Context())
}

func (a *App) begin() (end func()) {
	a.calls.Add(1)
	a.open.Add(1)
	return func() { a.open.Add(-1) }
}

// exchange is what is said between head and end.
func (w *Wish) exchange(kind Kind, stream grpc.ServerStream) error {
	var last wrapperspb.BytesValue
	for {
		err := stream.RecvMsg(&last)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if kind.ClientStreams && kind.ServerStreams {
			if err := stream.SendMsg(&last); err != nil {
				return err
			}
		}
		if !kind.ClientStreams {
			break
		}
	}
	switch {
	case kind.ClientStreams && kind.ServerStreams, !kind.ServerStreams && w.Code != codes.OK:
		return nil
	case !kind.ServerStreams:
		return stream.SendMsg(&last)
	}
	for range w.Answers {
		if err := stream.SendMsg(&last); err != nil {
			return err
		}
	}
	return nil
}

func wishOf(ctx context.Context) (w *Wish, err error) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	values := incoming.Get(wishName)
	if len(values) != 1 {
		return nil, status.Error(codes.InvalidArgument, "no wish")
	}
	if err := json.Unmarshal([]byte(values[0]), &w); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return w, nil
}

func (w *Wish) announce(now, later func(metadata.MD) error) error {
	head := metadata.Pairs(HeadName, w.ID)
	if w.Head {
		return now(head)
	}
	return later(head)
}

func (w *Wish) tail() metadata.MD {
	return metadata.Pairs(TailName, w.ID, TailName, "second value", TailName+"-bin", "\x00\xff"+w.ID)
}

func (w *Wish) end(ctx context.Context) error {
	if w.Wait {
		<-ctx.Done()
		return ctx.Err()
	}
	if w.Code == codes.OK {
		return nil
	}
	s := status.New(w.Code, w.Message)
	for _, text := range w.Details {
		var err error
		if s, err = s.WithDetails(wrapperspb.String(text)); err != nil {
			return err
		}
	}
	return s.Err()
}
