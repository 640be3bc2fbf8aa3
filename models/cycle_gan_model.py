"""CycleGAN: unpaired image-to-image translation using cycle-consistent adversarial networks (Zhu et al. 2017)."""

from __future__ import annotations

from functools import partial

import torch

from models import networks, shared_passes
from models.base_model import BaseModel
from util.image_pool import ImagePool
from util.speed import cuda_graphs


class CycleGANModel(BaseModel):
    """G_A: A -> B and G_B: B -> A are the paper's G and F; D_A judges images of B, D_B images of A (its D_Y and D_X).

    The paper's x and y are real_A and real_B. The objective is equation 3 with the identity loss of section 5.2:

    L = lambda_GAN * (L_GAN(G_A, D_A) + L_GAN(G_B, D_B)) + lambda_A |G_B(G_A(A)) - A| + lambda_B |G_A(G_B(B)) - B|
        + lambda_identity * (lambda_B |G_A(B) - B| + lambda_A |G_B(A) - A|)
    """

    captured_inputs = ("real_A", "real_B")

    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser.set_defaults(no_dropout=True)
        if is_train:
            add = parser.option
            add("--lambda_A", 10.0, "weight of the cycle A -> B -> A")
            add("--lambda_B", 10.0, "weight of the cycle B -> A -> B")
            add("--lambda_GAN", 1.0, "weight of both GAN losses; 0: none, the Ds still learn", new=True)
            add("--lambda_identity", 0.5, "identity loss, relative to the cycle's; 0: none")
            add("--lambda_gp", 10.0, "gradient penalty's weight in wgangp", new=True)
        return parser

    def __init__(self, opt):
        BaseModel.__init__(self, opt)
        self.loss_names = ["D_A", "G_A", "cycle_A", "idt_A", "D_B", "G_B", "cycle_B", "idt_B"]
        if self.isTrain and opt.lambda_identity > 0 and opt.input_nc != opt.output_nc:
            print(f"no identity loss: G_A cannot take B, since A has {opt.input_nc} channels and B {opt.output_nc}")
            opt.lambda_identity = 0.0
        identity = self.isTrain and opt.lambda_identity > 0
        self.visual_names = ["real_A", "fake_B", "rec_A"] + ["idt_B"] * identity
        self.visual_names += ["real_B", "fake_A", "rec_B"] + ["idt_A"] * identity
        self.model_names = ["G_A", "G_B", "D_A", "D_B"] if self.isTrain else ["G_A", "G_B"]
        generator = opt.ngf, opt.netG, opt.norm, not opt.no_dropout, opt.init_type, opt.init_gain
        self.netG_A = networks.define_G(opt.input_nc, opt.output_nc, *generator)
        self.netG_B = networks.define_G(opt.output_nc, opt.input_nc, *generator)
        if self.isTrain:
            self.define_training(opt)

    def define_training(self, opt):
        """Make the discriminators, histories of fakes, criteria and optimizers, which training alone needs."""
        self.shared_identity = None  # see `identity_images`
        self.lambda_GAN = getattr(opt, "lambda_GAN", 1.0)  # a subclass written for the reference may lack the option
        discriminator = opt.ndf, opt.netD, opt.n_layers_D, opt.norm, opt.init_type, opt.init_gain
        self.netD_A = networks.define_D(opt.output_nc, *discriminator)
        self.netD_B = networks.define_D(opt.input_nc, *discriminator)
        self.fake_A_pool = ImagePool(opt.pool_size)
        self.fake_B_pool = ImagePool(opt.pool_size)
        self.criterionGAN = networks.GANLoss(opt.gan_mode).to(self.device)
        self.criterionCycle = torch.nn.L1Loss()
        self.criterionIdt = torch.nn.L1Loss()
        adam = partial(torch.optim.Adam, lr=opt.lr, betas=(opt.beta1, 0.999), fused=True)
        self.optimizer_G = adam([*self.netG_A.parameters(), *self.netG_B.parameters()])
        self.optimizer_D = adam([*self.netD_A.parameters(), *self.netD_B.parameters()])
        self.optimizers = [self.optimizer_G, self.optimizer_D]

    def set_input(self, input):
        A, B = ("A", "B") if self.opt.direction == "AtoB" else ("B", "A")
        self.real_A = input[A].to(self.device, non_blocking=True)
        self.real_B = input[B].to(self.device, non_blocking=True)
        self.image_paths = input[A + "_paths"]

    def forward(self):
        """Translate to the other domain and back (section 3.2)."""
        self.fake_B = self.netG_A(self.real_A)  # G(x)
        self.rec_A = self.netG_B(self.fake_B)  # F(G(x))
        self.fake_A = self.netG_B(self.real_B)  # F(y)
        self.rec_B = self.netG_A(self.fake_A)  # G(F(y))

    def backward_D_basic(self, netD, real, fake):
        """Half the sum of D's losses on real images and on fakes; return it after its backward pass."""
        pred_real, pred_fake = shared_passes.run(netD, real, fake.detach())
        loss_D_real = self.criterionGAN(pred_real, True)
        loss_D_fake = self.criterionGAN(pred_fake, False)
        loss_D = (loss_D_real + loss_D_fake + self.gradient_penalty(netD, real, fake)) * 0.5
        loss_D.backward()
        return loss_D

    def backward_D_A(self):
        """D_A against the history of G_A's fakes (section 4)."""
        self.loss_D_A = self.backward_D_basic(self.netD_A, self.real_B, self.fake_B_pool.query(self.fake_B))

    def backward_D_B(self):
        """D_B against the history of G_B's fakes."""
        self.loss_D_B = self.backward_D_basic(self.netD_B, self.real_A, self.fake_A_pool.query(self.fake_A))

    def backward_G(self):
        """Both generators' losses: adversarial (section 3.1), cycle consistency (3.2), identity (5.2)."""
        lambda_A, lambda_B, lambda_idt = self.opt.lambda_A, self.opt.lambda_B, self.opt.lambda_identity
        self.loss_G_A = self.criterionGAN(self.netD_A(self.fake_B), True) * self.lambda_GAN
        self.loss_G_B = self.criterionGAN(self.netD_B(self.fake_A), True) * self.lambda_GAN
        self.loss_cycle_A = self.criterionCycle(self.rec_A, self.real_A) * lambda_A  # |F(G(x)) - x|
        self.loss_cycle_B = self.criterionCycle(self.rec_B, self.real_B) * lambda_B  # |G(F(y)) - y|
        self.loss_idt_A = self.loss_idt_B = 0
        if lambda_idt > 0:
            self.idt_A, self.idt_B = self.identity_images()
            self.loss_idt_A = self.criterionIdt(self.idt_A, self.real_B) * lambda_B * lambda_idt  # |G(y) - y|
            self.loss_idt_B = self.criterionIdt(self.idt_B, self.real_A) * lambda_A * lambda_idt  # |F(x) - x|
        self.loss_G = (
            self.loss_G_A + self.loss_G_B + self.loss_cycle_A + self.loss_cycle_B + self.loss_idt_A + self.loss_idt_B
        )
        self.loss_G.backward()

    @cuda_graphs.captured
    def optimize_parameters(self):
        if self.can_share_passes():
            self.forward_shared()
        else:
            self.forward()
        with self.update(self.optimizer_G, self.netG_A, self.netG_B):
            self.backward_G()
        with self.update(self.optimizer_D, self.netD_A, self.netD_B):
            self.backward_D_A()
            self.backward_D_B()

    # ---- the generators' six passes as three ----

    def can_share_passes(self) -> bool:
        """Whether a step runs `forward_shared`; not in a subclass that has its own `forward` or `backward_G`."""
        own = any(getattr(type(self), name) is not getattr(CycleGANModel, name) for name in ("forward", "backward_G"))
        if own or self.opt.lambda_identity <= 0:
            return False
        return all(shared_passes.can_share(net, self.real_A, self.real_B) for net in (self.netG_A, self.netG_B))

    def forward_shared(self):
        """Compute what `forward` and `identity_images` do, several images per pass: the same up to rounding."""
        self.fake_B, idt_A = shared_passes.run(self.netG_A, self.real_A, self.real_B)
        self.fake_A, idt_B, self.rec_A = shared_passes.run(self.netG_B, self.real_B, self.real_A, self.fake_B)
        self.rec_B = self.netG_A(self.fake_A)
        self.shared_identity = idt_A, idt_B

    def identity_images(self):
        """Return G(y) and F(x): computed by this step's `forward_shared`, else here."""
        images, self.shared_identity = self.shared_identity, None
        return images or (self.netG_A(self.real_B), self.netG_B(self.real_A))
