package gateway

import (
	"net/netip"

	"sallyport/authn/session"
	"sallyport/gateway/place"
	"sallyport/policy"
)

// facts are what is known of a client besides its requests, worked out once for a connection as long as what they follow
// from stays the same. They never change.
type facts struct {
	places *place.Places // who was asked where it is
	shown  *shownCert
	agent  string // User-Agent

	client policy.Client
	bound  session.Bound
}

// facts are of this exchange, under a configuration.
func (x *exchange) facts(snap *Snapshot) *facts {
	shown, said := x.shown(snap, x.start), x.req.UserAgent()
	had := x.conn.facts.Load()
	if had != nil && had.places == snap.Places && had.shown == shown && had.agent == said {
		return had
	}
	made := &facts{places: snap.Places, shown: shown, agent: said, client: x.whereabouts(snap)}
	made.bound = session.Bound{UserAgent: agentOf(said).String(), Certificate: shown.holder(), Country: made.client.Country,
		Network: networkName(x.conn.address.Addr(), made.client.Zone)}
	x.conn.facts.Store(made)
	return made
}

// whereabouts is where the client is, as the policy knows it.
func (x *exchange) whereabouts(snap *Snapshot) policy.Client {
	address := x.conn.address.Addr()
	return policy.Client{IP: x.conn.ip, Zone: snap.Places.Zone(address), Country: snap.Places.Country(address)}
}

// networkName is the network that sessions are bound to: the named one or, outside of all, what a provider gives a customer
// at least, so that a new address there is no other network.
func networkName(address netip.Addr, zone string) string {
	if zone != "" {
		return zone
	}
	address = address.Unmap().WithZone("")
	bits := 48
	if address.Is4() {
		bits = 24
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return "" // no IP address
	}
	return prefix.String()
}
