package grpcapp

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Without anything between them client and app understand each other, so that what is found later is the gateway's.
func TestCallsEndAsWished(t *testing.T) {
	app := Start(t)
	conn, err := grpc.NewClient("passthrough:///"+app.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, kind := range Kinds {
		for _, wish := range []Wish{
			{ID: "ok", Answers: 3},
			{ID: "late", Answers: 3, Code: codes.Aborted, Message: "ende, schön", Details: []string{"why"}},
			{ID: "head", Head: true, Code: codes.NotFound},
			{ID: "only", Early: true, Code: codes.DataLoss, Message: "100% gone"},
		} {
			got := Call(t.Context(), conn, kind, wish, []byte("one"))
			s := status.Convert(got.Err)
			if s.Code() != wish.Code || s.Message() != wish.Message || len(s.Details()) != len(wish.Details) {
				t.Errorf("%s %s ended with %v", kind.Method, wish.ID, s)
			}
			if tail := got.Tail.Get(TailName); len(tail) != 2 || tail[0] != wish.ID {
				t.Errorf("%s %s: trailer %v", kind.Method, wish.ID, got.Tail)
			}
			if wish.Code == codes.OK && (len(got.Messages) == 0 || string(got.Messages[0]) != "one") {
				t.Errorf("%s %s: messages %q", kind.Method, wish.ID, got.Messages)
			}
		}
	}
	if app.Open() != 0 || app.Calls() != 16 {
		t.Errorf("%d calls are open, %d were made", app.Open(), app.Calls())
	}
}
