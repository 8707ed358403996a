package policy

import (
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	b, err := Build(Config{}, []App{{Name: "wiki", Access: Access{{Groups: []string{"staff"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{}
	in.Subject.Type = TypeUser
	in.Subject.Groups = []string{"staff"}
	in.Resource.ID = "wiki"
	in.Context.SetTime(time.Now(), time.UTC)
	v := e.Decide(t.Context(), in)
	t.Logf("%s %v %s", v.JSON, v.Err, v.Reason)
	in.Subject.Groups = nil
	v = e.Decide(t.Context(), in)
	t.Logf("%s %v %s", v.JSON, v.Err, v.Reason)
	in.Subject.Type = TypeAnonymous
	v = e.Decide(t.Context(), in)
	t.Logf("%s %v %s", v.JSON, v.Err, v.Reason)
	t.Log(b.Digest)
}
