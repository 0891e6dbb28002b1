"""Programs that scripts/programs brings along, in the languages of programlib/languages.py."""

NODE_SERVER = r"""
const cluster = require('cluster'), http = require('http'), dgram = require('dgram'), fs = require('fs');
const [port, path] = process.argv.slice(2);
if (cluster.isPrimary) {
    let listening = 0;
    cluster.fork(); cluster.fork();
    cluster.on('message', () => { if (++listening === 2) console.log('listening twice'); });
} else {
    http.createServer((request, response) => {
        response.setHeader('worker', cluster.worker.id);
        fs.createReadStream(path).pipe(response);
    }).listen(+port, '0.0.0.0', () => {
        const socket = dgram.createSocket('udp4');
        socket.on('message', (data, peer) => socket.send(data, peer.port, peer.address));
        socket.bind(+port, '0.0.0.0', () => process.send('ready'));
    });
}
"""
NODE_CLIENT = r"""
const http = require('http'), net = require('net'), dgram = require('dgram'), crypto = require('crypto');
const [host, port, clients] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const get = () => new Promise((done, fail) => http.get({ host, port, agent }, (response) => {
    const hash = crypto.createHash('sha256');
    response.on('data', (data) => hash.update(data)).on('end', () => done(hash.digest('hex')));
}).on('error', fail));
const echo = () => new Promise((done) => {
    const socket = dgram.createSocket('udp4'), text = 'x'.repeat(1200);
    let number = 0;
    const ask = () => socket.send(text + number, port, host);
    socket.on('message', (data) => {
        if (data.toString() !== text + number) throw new Error('echo');
        if (++number === 100) { socket.close(); done(); } else ask();
    });
    ask();
});
const refused = () => new Promise((done) => net.connect(1, host).on('error', (error) => done(error.code)));
(async () => {
    for (const digest of await Promise.all(Array.from({ length: +clients }, get))) console.log(digest);
    await echo();
    console.log(await refused() === 'ECONNREFUSED' ? 'refused' : 'not refused');
    agent.destroy();
})();
"""
GO = r"""
package main

import ("bytes"; "crypto/sha256"; "errors"; "fmt"; "io"; "net"; "net/http"; "os"; "strconv"; "sync"; "syscall"; "time")

func check(err error) { if err != nil { fmt.Println(err); os.Exit(1) } }

func serve(addr, path string) {
	packets, err := net.ListenPacket("udp", addr)
	check(err)
	go func() {
		data := make([]byte, 2000)
		for { n, peer, _ := packets.ReadFrom(data); packets.WriteTo(data[:n], peer) }
	}()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	check(http.ListenAndServe(addr, nil))
}

func get(url string, done *sync.WaitGroup, say chan string) {
	defer done.Done()
	answer, err := http.Get(url)
	check(err)
	hash := sha256.New()
	_, err = io.Copy(hash, answer.Body)
	check(err)
	say <- fmt.Sprintf("%x", hash.Sum(nil))
}

func main() {
	if os.Args[1] == "serve" { serve(os.Args[2], os.Args[3]); return }
	clients, _ := strconv.Atoi(os.Args[4])
	var done sync.WaitGroup
	say := make(chan string, clients)
	done.Add(clients)
	for i := 0; i < clients; i++ { go get("http://" + os.Args[2] + "/", &done, say) }
	done.Wait()
	for i := 0; i < clients; i++ { fmt.Println(<-say) }
	echo, err := net.Dial("udp", os.Args[2])
	check(err)
	echo.SetDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, 2000)
	for i := 0; i < 100; i++ {
		text := bytes.Repeat([]byte{byte(i)}, 1200 + i)
		_, err = echo.Write(text)
		check(err)
		n, err := echo.Read(got)
		check(err)
		if !bytes.Equal(got[:n], text) { fmt.Println("echo"); os.Exit(1) }
	}
	echo.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err = echo.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) { fmt.Println(err); os.Exit(1) }
	_, err = net.Dial("tcp", os.Args[3])
	if errors.Is(err, syscall.ECONNREFUSED) { fmt.Println("refused") } else { fmt.Println(err) }
}
"""
JAVA = r"""
import com.sun.net.httpserver.HttpServer;
import java.io.*;
import java.net.*;
import java.net.http.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.nio.file.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;

public class Web {
    static void serve(int port, Path path) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 50);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, Files.size(path));
            try (OutputStream body = exchange.getResponseBody()) { Files.copy(path, body); }
        });
        server.start();
        DatagramSocket packets = new DatagramSocket(port + 1);
        new Thread(() -> {
            try {
                DatagramPacket packet = new DatagramPacket(new byte[2000], 2000);
                while (true) { packet.setLength(2000); packets.receive(packet); packets.send(packet); }
            } catch (IOException error) { error.printStackTrace(); }
        }).start();
        Selector selector = Selector.open();
        ServerSocketChannel listener = ServerSocketChannel.open().bind(new InetSocketAddress(port + 2));
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        ByteBuffer buffer = ByteBuffer.allocateDirect(65536);
        while (true) {
            selector.select();
            for (Iterator<SelectionKey> keys = selector.selectedKeys().iterator(); keys.hasNext(); ) {
                SelectionKey key = keys.next();
                keys.remove();
                if (key.isAcceptable()) {
                    SocketChannel conn = listener.accept();
                    conn.configureBlocking(false);
                    conn.register(selector, SelectionKey.OP_READ);
                } else {
                    SocketChannel conn = (SocketChannel) key.channel();
                    buffer.clear();
                    if (conn.read(buffer) < 0) { conn.close(); continue; }
                    buffer.flip();
                    while (buffer.hasRemaining()) conn.write(buffer);
                }
            }
        }
    }

    static void echo(String host, int port) throws Exception {
        byte[] text = new byte[100000];
        new Random(port).nextBytes(text);
        try (Socket conn = new Socket(host, port)) {
            conn.setSoTimeout(10000);
            Thread writer = new Thread(() -> {
                try { conn.getOutputStream().write(text); conn.shutdownOutput(); }
                catch (IOException error) { error.printStackTrace(); }
            });
            writer.start();
            if (!Arrays.equals(conn.getInputStream().readAllBytes(), text)) throw new Exception("echo");
            writer.join();
        }
        try (DatagramSocket asker = new DatagramSocket()) {
            asker.setSoTimeout(5000);
            for (int number = 0; number < 100; number++) {
                byte[] sent = Arrays.copyOf(text, 1000 + number);
                asker.send(new DatagramPacket(sent, sent.length, new InetSocketAddress(host, port - 1)));
                DatagramPacket got = new DatagramPacket(new byte[2000], 2000);
                asker.receive(got);
                if (!Arrays.equals(Arrays.copyOf(got.getData(), got.getLength()), sent)) throw new Exception("UDP");
            }
            asker.setSoTimeout(50);
            try { asker.receive(new DatagramPacket(new byte[10], 10)); throw new Exception("late"); }
            catch (SocketTimeoutException expected) { }
        }
    }

    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[args[0].equals("serve") ? 1 : 2]);
        if (args[0].equals("serve")) { serve(port, Path.of(args[2])); return; }
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + args[1] + ":" + port + "/")).build();
        List<CompletableFuture<byte[]>> answers = new ArrayList<>();
        for (int number = Integer.parseInt(args[3]); number > 0; number--)
            answers.add(client.sendAsync(request, HttpResponse.BodyHandlers.ofByteArray())
                .thenApply(HttpResponse::body));
        for (CompletableFuture<byte[]> answer : answers)
            System.out.println(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(answer.get())));
        echo(args[1], port + 2);
        try { new Socket(args[1], 1).close(); System.out.println("not refused"); }
        catch (ConnectException error) { System.out.println("refused"); }
        System.exit(0);
    }
}
"""
WEBSOCKETS_SERVER = """
import asyncio, sys, websockets
async def echo(conn):
    async for message in conn:
        await conn.send(message)
async def main():
    async with websockets.serve(echo, "0.0.0.0", int(sys.argv[1]), max_size=None):
        await asyncio.Future()
asyncio.run(main())
"""
WEBSOCKETS_CLIENT = """
import asyncio, random, sys, websockets
async def one(seed):
    async with websockets.connect(f"ws://{sys.argv[1]}:{sys.argv[2]}", max_size=None) as conn:
        for size in (1, 125, 126, 65535, 65536, 1_000_000 if seed < 5 else 20_000):
            message = random.Random(seed).randbytes(size)
            await conn.send(message)
            assert await conn.recv() == message
        await (await conn.ping())
        return 1
async def main():
    print(sum(await asyncio.gather(*map(one, range(50)))), "good")
asyncio.run(main())
"""
GRPC_SERVER = """
import grpc, sys, time
from concurrent import futures
class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/t/echo":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        if details.method == "/t/slow":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: time.sleep(2) or request)
        def stream(request, context):
            for number in range(int(request)):
                yield bytes([number % 251]) * 100_000
        return grpc.unary_stream_rpc_method_handler(stream)
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port(f"0.0.0.0:{sys.argv[1]}")
server.start()
server.wait_for_termination()
"""
GRPC_CLIENT = """
import grpc, sys
with grpc.insecure_channel(f"{sys.argv[1]}:{sys.argv[2]}") as channel:
    echo = channel.unary_unary("/t/echo")
    assert all(echo(b"%d" % number, timeout=30) == b"%d" % number for number in range(100))
    many = [echo.future(b"x" * number * 100, timeout=30) for number in range(100)]
    assert [len(each.result()) for each in many] == [number * 100 for number in range(100)]
    print("calls good")
    parts = list(channel.unary_stream("/t/stream")(b"200", timeout=60))
    assert parts == [bytes([number % 251]) * 100_000 for number in range(200)]
    print("stream good")
    try:
        channel.unary_unary("/t/slow")(b"", timeout=0.2)
    except grpc.RpcError as error:
        print(error.code().name)
with grpc.insecure_channel(f"{sys.argv[1]}:1") as channel:
    try:
        channel.unary_unary("/t/echo")(b"", timeout=30)
    except grpc.RpcError as error:
        print(error.code().name)
"""
