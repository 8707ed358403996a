package keyd

import (
	"encoding/json"
	"fmt"

	"sallyport/certs/internal/wire"
)

// keyset is every key that there is at a time. It does not change: a rotation makes another one.
type keyset struct {
	keys []*key // in the order of the configuration
	byID map[wire.KeyID]*key
	list []byte // the answer to list
}

func newKeyset(keys []*key) (*keyset, error) {
	s := &keyset{keys: keys, byID: map[wire.KeyID]*key{}}
	var list wire.List
	for _, k := range keys {
		s.byID[k.id] = k
		origins, err := k.origins()
		if err != nil {
			return nil, err
		}
		list.Keys = append(list.Keys, wire.Key{
			Name: k.Name, Purpose: k.Purpose, ID: k.id.String(), Public: k.public, Names: k.Names, ClientID: k.ClientID,
			Origins: origins, TLS12: k.sign12 != nil,
		})
	}
	var err error
	if s.list, err = json.Marshal(list); err != nil {
		return nil, err
	}
	if room := wire.MaxAnswer / 2; len(s.list) > room { // status says the same and more
		return nil, fmt.Errorf("too many keys: their list takes %d bytes of %d", len(s.list), room)
	}
	return s, nil
}
