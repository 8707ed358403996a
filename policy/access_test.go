package policy

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What a bundle says of its apps makes the same bundle again.
func TestAppsAreReadBackFromTheirBundle(t *testing.T) {
	apps := append(company(), App{Name: "hours", Access: Access{
		{ID: "days", Paths: []string{"/", "/a", "/b/"}, Public: true, Hours: &Hours{Days: []string{"mon-wed", "fri"}}},
		{ID: "both", Methods: []string{"HEAD"}, Public: true, Hours: &Hours{Days: []string{"sat", "sun"}, From: "10:00", To: "24:00"}},
		{ID: "strong", Domains: []string{"Corp.example"}, ACR: []string{"gold"}, MaxAge: time.Hour},
	}})
	e := newEngine(t, Config{Timezone: "Europe/Berlin"}, apps, nil)
	var again []App
	for _, name := range e.Apps() {
		app, err := e.Bundle().App(name)
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, *app)
	}
	rebuilt := newEngine(t, Config{Timezone: "Europe/Berlin"}, again, nil)
	if diff := cmp.Diff(document(t, e), document(t, rebuilt)); diff != "" {
		t.Errorf("data changed (-was +is):\n%s", diff)
	}
	if _, err := e.Bundle().App("none"); err == nil {
		t.Error("an app that does not exist was found")
	}
}

func document(t *testing.T, e *Engine) (data any) {
	t.Helper()
	if err := json.Unmarshal(e.Bundle().Data(), &data); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHoursAreOpenInTheirWindows(t *testing.T) {
	h := &Hours{Days: []string{"fri"}, From: "22:30", To: "06:00"}
	for _, c := range []struct {
		day    string
		minute int
		want   bool
	}{{"fri", 22*60 + 30, true}, {"fri", 22*60 + 29, false}, {"sat", 359, true}, {"sat", 360, false}, {"someday", 0, false}} {
		if got := h.Open(c.day, c.minute); got != c.want {
			t.Errorf("%s %d: got %v, want %v", c.day, c.minute, got, c.want)
		}
	}
}
