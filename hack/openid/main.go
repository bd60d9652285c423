// An OpenID provider for the tests: the example server of zitadel/oidc, which speaks the protocol, over TLS, with one
// public client whose access tokens are JWTs, and with groups. On request also with machines as clients, and with keys of
// the test's own.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const scopeGroups = "groups"

type user struct {
	Email         string
	EmailVerified bool
	Groups        []string
}

// provider is the example's storage, with another kind of access token and with groups.
type provider struct {
	*storage.Storage
	users    map[string]user
	opaque   bool
	machines map[string]machine
}

// client is the example's client of this name.
type client struct {
	op.Client
	opaque bool
}

func (c client) AccessTokenType() op.AccessTokenType {
	if c.opaque {
		return op.AccessTokenTypeBearer
	}
	return op.AccessTokenTypeJWT
}

func (c client) IsScopeAllowed(scope string) bool {
	return scope == scopeGroups
}

func (p *provider) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	found, err := p.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return client{found, p.opaque}, nil
}

// GetPrivateClaimsFromScopes makes the claims of access tokens.
func (p *provider) GetPrivateClaimsFromScopes(_ context.Context, id, _ string, scopes []string) (map[string]any, error) {
	if machine, ok := p.machines[id]; ok {
		return machine.Claims, nil
	}
	user := p.users[id]
	claims := map[string]any{"email": user.Email, "email_verified": user.EmailVerified}
	if slices.Contains(scopes, scopeGroups) {
		claims["groups"] = user.Groups
	}
	return claims, nil
}

// SetUserinfoFromRequest makes the claims of id tokens.
func (p *provider) SetUserinfoFromRequest(
	ctx context.Context, info *oidc.UserInfo, request op.IDTokenRequest, scopes []string,
) error {
	if err := p.Storage.SetUserinfoFromRequest(ctx, info, request, scopes); err != nil {
		return err
	}
	user := p.users[request.GetSubject()]
	info.AppendClaims("email", user.Email)
	info.AppendClaims("email_verified", user.EmailVerified)
	if slices.Contains(scopes, scopeGroups) {
		info.AppendClaims("groups", user.Groups)
	}
	return nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:9998", "address")
	certificate := flag.String("tls-cert-file", "", "PEM file")
	key := flag.String("tls-key-file", "", "PEM file")
	usersFile := flag.String("users-file", "", "JSON: by subject, Username, Password, Email, EmailVerified, Groups")
	clientID := flag.String("client", "opendepot", "the public client")
	redirects := flag.String("redirects", "http://localhost/login", "redirect URIs of the client, comma-separated")
	machinesFile := flag.String("machines-file", "", "JSON: by client, secret, audience, claims")
	keys := flag.String("keys-dir", "", "RSA keys (PKCS #8), read for each request; the last by name signs")
	opaque := flag.Bool("opaque", false, "issue access tokens that are no JWTs")
	flag.Parse()

	names, err := storage.StoreFromFile(*usersFile)
	if err != nil {
		log.Fatal(err)
	}
	users, machines := map[string]user{}, map[string]machine{}
	read(*usersFile, &users)
	if *machinesFile != "" {
		read(*machinesFile, &machines)
	}
	storage.RegisterClients(storage.NativeClient(*clientID, strings.Split(*redirects, ",")...))
	var store exampleop.Storage = &provider{storage.NewStorage(names), users, *opaque, machines}
	if *keys != "" {
		store = &keyed{store.(*provider), *keys}
	}
	server := exampleop.SetupServer("https://"+*listen, store, nil, false)
	log.Fatal(http.ListenAndServeTLS(*listen, *certificate, *key, server))
}

func read(path string, into any) {
	text, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		log.Fatal(err)
	}
}
