"""A broker as companies run it: SASL_SSL with SCRAM and OAuth, mutual TLS, and ACLs; beside them a plain door for its
operator. Certificates are made by the JRE's keytool, tokens are signed in the session's JVM."""

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pyspark.sql import SparkSession

from lakehouse_spark.local.broker import Broker, _State
from lakehouse_spark.local.loopback import HOST, free_port
from lakehouse_spark.local.topics import QUIET_CLIENT

PASSWORD = "canary-of-the-store"
_JAAS = "org.apache.kafka.common.security"
_PROPERTIES = """
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller},SCRAM://{host}:{scram},OAUTH://{host}:{oauth},MUTUAL://{host}:{mutual}
advertised.listeners=PLAINTEXT://{host}:{port},SCRAM://{host}:{scram},OAUTH://{host}:{oauth},MUTUAL://{host}:{mutual}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,OAUTH:SASL_SSL,MUTUAL:SSL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.keystore.location={server}
ssl.keystore.password={password}
ssl.truststore.location={trusted}
ssl.truststore.password={password}
listener.name.mutual.ssl.client.auth=required
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oauth.oauthbearer.sasl.jaas.config={jaas}.oauthbearer.OAuthBearerLoginModule required;
listener.name.oauth.oauthbearer.sasl.server.callback.handler.class={jaas}.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwks.endpoint.url={issuer}/jwks
sasl.oauthbearer.expected.audience=kafka
"""


class SecureBroker(Broker):
    """Listens on four doors of loopback; who comes through the plain one may do everything, others what ACLs say."""

    def __init__(self, home: Path, java: Path, jars: Sequence[Path], issuer: "Issuer") -> None:
        super().__init__(home, java, jars)
        self.keys, self._issuer = home / "keys", issuer
        ports: list[int] = []
        while len(ports) < 3:
            port = free_port()
            if port not in ports:
                ports.append(port)
        self.scram, self.oauth, self.mutual = (f"{HOST}:{port}" for port in ports)
        self._keytool = str(java.with_name("keytool"))
        self._make_keys()

    def _configure(self, folder: Path, state: _State) -> None:
        super()._configure(folder, state)
        doors = {name: getattr(self, name).partition(":")[2] for name in ("scram", "oauth", "mutual")}
        said = _PROPERTIES.format(
            host=HOST, port=state.port, controller=state.controller_port, jaas=_JAAS, issuer=self._issuer.url,
            server=self.keys / "server.p12", trusted=self.keys / "trusted.p12", password=PASSWORD, **doors,
        )  # fmt: skip
        with (folder / "server.properties").open("a", encoding="utf-8") as file:
            file.write(said)

    def _command(self, *options: str) -> list[str]:
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self._issuer.url}/jwks"
        return super()._command(allowed, *options)

    def _make_keys(self) -> None:
        """A key and certificate each for the broker and for a client, and a store that trusts both."""
        self.keys.mkdir(parents=True)
        for name in ("server", "client"):
            self._run(
                "-genkeypair", "-keystore", f"{name}.p12", "-alias", name, "-dname", f"CN={name}", "-keyalg", "EC",
                "-validity", "2", "-ext", f"san=ip:{HOST}",
            )  # fmt: skip
            self._run("-exportcert", "-keystore", f"{name}.p12", "-alias", name, "-file", f"{name}.crt")
            self._run("-importcert", "-keystore", "trusted.p12", "-alias", name, "-file", f"{name}.crt", "-noprompt")

    def _run(self, *words: str) -> None:
        password = ("-storepass:env", "STORE", "-storetype", "PKCS12")
        subprocess.run(
            [self._keytool, *words, *password], cwd=self.keys, check=True, capture_output=True,
            env={**os.environ, "STORE": PASSWORD},
        )  # fmt: skip

    @property
    def trust(self) -> dict[str, str]:
        """Options of a client that knows the broker's certificate, which `ssl.truststore.password` opens."""
        return {"ssl.truststore.location": str(self.keys / "trusted.p12"), "ssl.truststore.type": "PKCS12"}

    @property
    def admin(self) -> AdminClient:
        """A client that answers as long as someone holds it."""
        return AdminClient({**QUIET_CLIENT, "bootstrap.servers": self.bootstrap_servers})

    def add_user(self, name: str, password: str) -> None:
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        made = UserScramCredentialUpsertion(name, info, password.encode())
        admin = self.admin
        for done in admin.alter_user_scram_credentials([made]).values():
            done.result()

    def allow(self, who: str, topic: str, operation: AclOperation) -> None:
        acl = AclBinding(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{who}", "*", operation,
            AclPermissionType.ALLOW,
        )  # fmt: skip
        admin = self.admin
        for done in admin.create_acls([acl]).values():
            done.result()


class Issuer(ThreadingHTTPServer):
    """Gives tokens to a client that knows its secret, and tells everybody by which key they are signed."""

    def __init__(self, spark: SparkSession, client: str, secret: str) -> None:
        super().__init__((HOST, 0), _Issuing)
        java: Any = spark._jvm
        generator = java.java.security.KeyPairGenerator.getInstance("RSA")
        generator.initialize(2048)
        self._java, self._pair = java.java, generator.generateKeyPair()
        self.client = client
        self.basic = "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()

    def __enter__(self) -> "Issuer":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": "kafka", "sub": self.client, "iat": now, "exp": now + 3600, "scope": "read"}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims))
        signer = self._java.security.Signature.getInstance("SHA256withRSA")
        signer.initSign(self._pair.getPrivate())
        signer.update(signed.encode())
        return f"{signed}.{_encoded(bytes(signer.sign()))}"

    def keys(self) -> dict[str, Any]:
        public = self._pair.getPublic()
        modulus, exponent = (int(part.toString()) for part in (public.getModulus(), public.getPublicExponent()))
        key = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256"}
        return {"keys": [{**key, "n": _encoded(modulus.to_bytes(256)), "e": _encoded(exponent.to_bytes(3))}]}


class _Issuing(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self._answer(200, self.server.keys())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != self.server.basic:
            self._answer(401, {"error": "invalid_client"})
            return
        self._answer(200, {"access_token": self.server.token(), "token_type": "Bearer", "expires_in": 3600})

    def _answer(self, status: int, said: dict[str, Any]) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: Any) -> None:
        pass


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")
