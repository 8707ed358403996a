package gateway

import (
	"net/netip"
	"testing"

	"sallyport/audit"
	"sallyport/gateway/place"
	"sallyport/policy"
)

// Where a client is is told to the policy and on record, by the configuration in effect: also for what is open.
func TestPolicyKnowsWhereClientsAre(t *testing.T) {
	b := newBed(t, events)
	b.keep()
	b.stream(t, "ada")
	record := b.log.one(t, audit.TypeDecision)
	in, err := policy.ParseInput(record.Document.AppendJSON(nil))
	if err != nil || in.Context.Client != (policy.Client{IP: "127.0.0.1"}) {
		t.Errorf("without places: %+v, %v", in.Context.Client, err)
	}
	next := snapshot(t, wiki(t, b.origin, "staff"))
	next.Places, err = place.New(place.Networks{"lab": {netip.MustParsePrefix("127.0.0.0/16")}}, place.GeoIP{Database: "place/testdata/countries.mmdb"})
	if err != nil {
		t.Fatal(err)
	}
	b.server.Swap(next)
	for _, x := range b.server.streams.all() {
		x.redecide()
	}
	if got := string(b.log.one(t, audit.TypeReevaluated).Detail); between(got, `"client":`, "}") != `{"country":"NL","zone":"lab"` {
		t.Errorf("decided again on %s", got)
	}
	if status, _ := answerTo(t, b.client(t, "http/1.1"), b.request(t, "POST", "/", "bob", nil)); status != 401 {
		t.Errorf("got %d", status)
	}
	decisions := b.log.of(audit.TypeDecision)
	in, err = policy.ParseInput(decisions[len(decisions)-1].Document.AppendJSON(nil))
	if err != nil || in.Context.Client != (policy.Client{IP: "127.0.0.1", Zone: "lab", Country: "NL"}) {
		t.Errorf("with places: %+v, %v", in.Context.Client, err)
	}
}
