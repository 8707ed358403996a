package grpcapp

import (
	"context"
	"encoding/json"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Answer is everything a client learns of a call.
type Answer struct {
	Messages   [][]byte
	Head, Tail metadata.MD
	Err        error // nil, or a status
}

// Call says the messages (one of them where the kind has one) and hears the answer out.
func Call(ctx context.Context, conn *grpc.ClientConn, kind Kind, wish Wish, messages ...[]byte) Answer {
	if !kind.ClientStreams && !kind.ServerStreams {
		return call(ctx, conn, kind, wish, messages[0])
	}
	stream, err := Open(ctx, conn, kind, wish)
	if err != nil {
		return Answer{Err: err}
	}
	for _, m := range messages {
		if stream.SendMsg(wrapperspb.Bytes(m)) != nil { // the call is over: RecvMsg says how
			break
		}
	}
	stream.CloseSend()
	return Hear(stream)
}

func call(ctx context.Context, conn *grpc.ClientConn, kind Kind, wish Wish, message []byte) (a Answer) {
	var reply wrapperspb.BytesValue
	a.Err = conn.Invoke(wish.in(ctx), kind.path(), wrapperspb.Bytes(message), &reply, grpc.Header(&a.Head), grpc.Trailer(&a.Tail))
	if a.Err == nil {
		a.Messages = append(a.Messages, reply.Value)
	}
	return a
}

// Open begins a call of a streaming kind.
func Open(ctx context.Context, conn *grpc.ClientConn, kind Kind, wish Wish) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{StreamName: kind.Method, ClientStreams: kind.ClientStreams, ServerStreams: kind.ServerStreams}
	return conn.NewStream(wish.in(ctx), desc, kind.path())
}

// Hear receives to the end.
func Hear(stream grpc.ClientStream) (a Answer) {
	for {
		var reply wrapperspb.BytesValue
		if err := stream.RecvMsg(&reply); err != nil {
			if err != io.EOF {
				a.Err = err
			}
			break
		}
		a.Messages = append(a.Messages, reply.Value)
	}
	a.Head, _ = stream.Header() // its error is the call's
	a.Tail = stream.Trailer()
	return a
}

func (k Kind) path() string { return "/" + service + "/" + k.Method }

func (w Wish) in(ctx context.Context) context.Context {
	text, err := json.Marshal(w)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return metadata.AppendToOutgoingContext(ctx, wishName, string(text))
}
