package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"sallyport/audit"
	"sallyport/gateway/route"
	"sallyport/policy"
)

// davRules let staff read and move everything, and write below /dav/open/ only.
func davRules() policy.Access {
	return policy.Access{
		{Paths: []string{"/dav/open/", "/open/"}, Groups: []string{"staff"}},
		{Methods: []string{"GET", "COPY", "MOVE"}, Groups: []string{"staff"}},
	}
}

// davBed is the wiki with davRules; saw tells what the app got as Destination, and nothing where it was not asked.
func davBed(t *testing.T, edit func(*route.App)) (b *bed, saw func() []string) {
	asked := make(chan []string, 8)
	b = newBed(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- append([]string{r.Method + " " + r.URL.Path}, r.Header["Destination"]...)
	})
	app, other := wiki(t, b.origin), wiki(t, b.origin, "staff")
	app.Access = davRules()
	other.Name, other.Path = "other", "/other/"
	edit(&app)
	b.server.Swap(snapshot(t, app, other))
	return b, func() []string {
		select {
		case got := <-asked:
			return got
		default:
			return nil
		}
	}
}

func (b *bed) copy(t *testing.T, handle, from, to string) int {
	t.Helper()
	r := b.request(t, "COPY", from, handle, nil)
	r.Header.Set("Destination", to)
	status, _ := answerTo(t, b.client(t, "http/1.1"), r)
	return status
}

// copies are destinations of a COPY of /dav/secret, with the answer and what is on record.
var copies = []struct {
	to     string
	status int
	effect audit.Effect
	reason string
}{
	{"/dav/open/b", 200, audit.Allow, ""},
	{"https://" + wikiHost + "/dav/open/b", 200, audit.Allow, ""},
	{"/dav/%6fpen/b", 200, audit.Allow, ""},
	{"/dav/secret/b", 403, audit.Deny, ""},
	{"/dav/open", 200, audit.Allow, ""},
	{"/dav/opened", 403, audit.Deny, ""},
	{"/other/b", 403, audit.Reject, "second_target"},
	{"/.sallyport/signout", 403, audit.Reject, "second_target"},
	{"/dav/open/../secret/b", 400, audit.Reject, "second_target"},
	{"https://other.corp.test/dav/open/b", 400, audit.Reject, "second_target"},
}

// failsCopies runs the copies and names the first that does not go as it must.
func failsCopies(t *testing.T, b *bed, saw func() []string) string {
	for _, row := range copies {
		before := len(b.log.of(audit.TypeDecision))
		status, got := b.copy(t, "ada", "/dav/secret", row.to), saw()
		records := b.log.of(audit.TypeDecision)[before:]
		switch {
		case status != row.status:
			return row.to + ": another status"
		case (got != nil) != (row.status == 200):
			return row.to + ": the app was asked, or was not"
		case len(records) != 1 || records[0].Effect != row.effect || row.reason != "" && records[0].Reason != row.reason:
			return row.to + ": another record"
		}
	}
	return ""
}

// What a COPY or MOVE writes to is judged like what it reads, before anything is opened.
func TestCopiesNeedLeaveToWriteWhereTheyWrite(t *testing.T) {
	b, saw := davBed(t, func(*route.App) {})
	if wrong := failsCopies(t, b, saw); wrong != "" {
		t.Error(wrong)
	}
	b.copy(t, "ada", "/dav/secret", "/dav/%6fpen/b")
	if got, want := saw(), []string{"COPY /dav/secret", "/dav/open/b"}; !slices.Equal(got, want) {
		t.Errorf("the app got %q, want %q", got, want)
	}
}

// The same cases find a gateway that reads the field and does not ask about it.
func TestCopiesFindADestinationThatNobodyJudges(t *testing.T) {
	b, saw := davBed(t, func(a *route.App) {
		a.Access = append(policy.Access{{Methods: []string{"PUT"}, Groups: []string{"staff"}}}, a.Access...)
	})
	if failsCopies(t, b, saw) == "" {
		t.Error("no case shows that the policy's answer about the destination does not count")
	}
}

// The record of a no holds the very question that got it, so that anybody recomputes it, and both targets.
func TestRefusedDestinationIsRecordedAsItWasAsked(t *testing.T) {
	b, _ := davBed(t, func(*route.App) {})
	b.copy(t, "ada", "/dav/secret", "/dav/secret/b")
	b.copy(t, "ada", "/dav/secret", "/dav/open/b")
	records := b.log.of(audit.TypeDecision)
	for i, want := range []struct{ method, path, detail string }{
		{"PUT", "/dav/secret/b", `{"method":"COPY","path":"/dav/secret","destination":"/dav/secret/b"}`},
		{"COPY", "/dav/secret", `{"method":"COPY","path":"/dav/secret","destination":"/dav/open/b"}`},
	} {
		var in policy.Input
		text := records[i].Document.AppendJSON(nil)
		if err := json.Unmarshal(text, &in); err != nil {
			t.Fatal(err)
		}
		if in.Action.Method != want.method || in.Resource.Path != want.path || string(records[i].Detail) != want.detail {
			t.Errorf("recorded %s %s, %s; want %+v", in.Action.Method, in.Resource.Path, records[i].Detail, want)
		}
		again := b.server.snapshot.Load().Policy.Recompute(t.Context(), text)
		if string(again.JSON) != string(records[i].Decision) {
			t.Errorf("recomputed as %s, recorded %s", again.JSON, records[i].Decision)
		}
	}
}

// Strangers are told the same whatever a destination names.
func TestStrangersLearnNothingFromDestinations(t *testing.T) {
	b, saw := davBed(t, func(*route.App) {})
	for _, to := range []string{"/dav/open/b", "/dav/secret/b", "/other/b", "/.sallyport/signout"} {
		if status := b.copy(t, "", "/dav/secret", to); status != http.StatusUnauthorized {
			t.Errorf("%s: status %d", to, status)
		}
	}
	if got := saw(); got != nil {
		t.Errorf("the app was asked for %q", got)
	}
}

// Behind a prefix, both targets are the app's own paths.
func TestDestinationLosesTheAppsPrefix(t *testing.T) {
	b, saw := davBed(t, func(a *route.App) { a.Path, a.StripPrefix = "/dav/", "/dav" })
	if status := b.copy(t, "ada", "/dav/secret", "https://"+wikiHost+"/dav/open/%c3%bc"); status != 200 {
		t.Fatalf("status %d", status)
	}
	if got, want := saw(), []string{"COPY /secret", "/open/%C3%BC"}; !slices.Equal(got, want) {
		t.Errorf("the app got %q, want %q", got, want)
	}
	if status := b.copy(t, "ada", "/dav/secret", "/open/b"); status != http.StatusForbidden {
		t.Errorf("a place outside of the app: status %d", status)
	}
}
